"""What is wrong with a model on disk, said before anything runs."""

import functools
from pathlib import Path

from torch import Tensor

from ...lumina.checkpoints import architecture, key_names
from ...lumina.checkpoints.broken_files import explain_unreadable
from ..prompts.vocabulary import FORMS, check_tokenizer
from ..text_encoders.loading import CONFIG, _config_json, _text_weights
from ..text_encoders.recognition import recognize
from .folders import TEXT_ENCODERS, ModelKind, locate, parts, signature
from .reading import Metadata, Weights, header


def explain_unusable(kind: ModelKind, name: str) -> str | None:
    """What is wrong with a model on disk, as far as headers and tokenizer tell; None if nothing."""
    try:
        return _explain_unusable(kind, name, tuple(signature(kind, name)))
    except (ValueError, FileNotFoundError) as error:
        return str(error)


# Asked at every job for each loader, and a large vocabulary takes a second to read.
@functools.lru_cache(maxsize=32)
def _explain_unusable(kind: ModelKind, name: str, state: tuple) -> str | None:
    try:
        path = locate(kind, name)
        files = parts(kind, path)
        problem = next(filter(None, map(explain_unreadable, files)), None)
        if problem is None:
            headers = [header(file, whole=(*FORMS, CONFIG)) for file in files]
            _check_headers(kind, path, name, headers)
        return problem
    except (ValueError, FileNotFoundError) as error:
        return str(error)


def _check_headers(
    kind: ModelKind, path: Path, name: str, headers: list[tuple[Weights, Metadata]]
) -> None:
    union: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for weights, found in headers:
        union.update(weights)
        metadata.update(found)
    sizes = [len(weights) for weights, _ in headers]
    if not all(sizes) or len(union) < sum(sizes):
        return  # torch files and parts to be joined must be read to know
    if kind is TEXT_ENCODERS:
        weights = _text_weights(union)
        encoder = recognize(weights, _config_json(path, weights, metadata), source=name)
        check_tokenizer(parts(kind, path)[0], weights, encoder.vocabulary, encoder.prompt_format)
        return
    prefix = key_names.prefix_of(union, name)
    once: dict[str, str] = {}
    for key in union:  # diffusers stores some tensors twice; without data they cannot be compared
        once.setdefault(key_names.native_name(key.removeprefix(prefix)), key)
    architecture.check(key_names.to_native({key: union[key] for key in once.values()}, name), name)
