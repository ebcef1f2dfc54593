"""Tokenizers of plain text, SentencePiece models or tokenizer.json, and where a model has its own.

A tokenizer is a file beside the weights (`tokenizer.model`, `spiece.model`, `tokenizer.json`) or a
tensor in the weights file (`spiece_model`, `tokenizer_json`). Both kinds give the tokens that their
own library gives, and each token's position in the text.
"""

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol

import comfy.text_encoders.t5
import tokenizers
import torch
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer
from torch import Tensor

from ...lumina.checkpoints.convert.folders import TOKENIZERS
from ...lumina.prompts.formats import PROMPT_FORMATS, PromptFormat

Span = tuple[int, int, int]  # token, and start and end of its characters in the text
_ANY_TEXT = "A cat, 2 Ä猫🐈"  # a damaged vocabulary may open and fail only at its first text


class Tokenizer(Protocol):
    """A tokenizer as the host's SDTokenizer uses one, and as a checkpoint stores it.

    with_special_tokens: tokens of a text including the special ones that its model adds; None if it
    does not know them. size: the largest token plus one; text_size: the same without special
    tokens, which plain text does not have. begin, end: its begin and end token; it adds neither.
    """

    size: int
    text_size: int
    begin: int | None
    end: int | None

    @property
    def with_special_tokens(self) -> Callable[[str], list[int]] | None: ...
    def __call__(self, text: str) -> dict[str, list[int]]: ...
    def spans(self, text: str) -> Iterator[Span]: ...
    def get_vocab(self) -> dict[str, int]: ...
    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str: ...
    def state_dict(self) -> dict[str, Tensor]: ...


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Turn whatever a tokenizer's library raises into a ValueError that names `source`.

    Both raise errors of all kinds, and a panic of tokenizers, which is written in Rust, is no
    Exception at all: it would end the host's thread that runs jobs.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        reason = textwrap.shorten(str(error), 200) or type(error).__name__
        raise ValueError(
            f"{source} cannot be read as a tokenizer: {reason}. Download it again."
        ) from error


class SentencePieceTokenizer(SPieceTokenizer):
    """Tokens of a serialized SentencePiece model. source: its name in errors.

    Raises ValueError for a model that cannot be read.
    """

    with_special_tokens = None

    def __init__(self, model: bytes, source: str = "tokenizer.model") -> None:
        with _reading(source):
            super().__init__(model, add_bos=False, add_eos=False)
        tokens = self.tokenizer.bos_id(), self.tokenizer.eos_id()
        self.begin, self.end = (token if token >= 0 else None for token in tokens)
        self.size = self.text_size = self.tokenizer.get_piece_size()

    def spans(self, text: str) -> Iterator[Span]:
        if hasattr(self.tokenizer, "encode_as_offset_mapping"):
            encoding = self.tokenizer.encode(text, out_type="offset_mapping")
            for token, (start, end) in zip(encoding["ids"], encoding["offsets"], strict=True):
                yield token, start, end
        else:  # sentencepiece before 0.2.2, which ComfyUI allows
            for piece in self.tokenizer.encode(text, out_type="immutable_proto").pieces:
                yield piece.id, piece.begin, piece.end

    def state_dict(self) -> dict[str, Tensor]:
        return {"spiece_model": self.serialize_model()}


class JsonTokenizer:
    """Tokens of a Hugging Face `tokenizer.json`. source: its name in errors.

    Raises ValueError for one that cannot be read, also where only some text shows it.
    """

    def __init__(self, model: bytes, source: str = "tokenizer.json") -> None:
        self.model, self.source = model, source
        with _reading(source):
            self._read_ids(json.loads(model))

    def _read_ids(self, tokenizer_json: Mapping[str, Mapping]) -> None:
        vocab = tokenizer_json["model"]["vocab"]
        ids = vocab if isinstance(vocab, dict) else {piece[0]: i for i, piece in enumerate(vocab)}
        added = tokenizer_json.get("added_tokens", ())
        special = {token["content"] for token in added if token.get("special")}
        ids = ids | {token["content"]: token["id"] for token in added}
        self.size = max(ids.values()) + 1
        self.text_size = max(ids[piece] for piece in ids.keys() - special) + 1
        # <bos> first: Gemma has LLaMA's <s> as well, as an HTML tag.
        self.begin = ids.get("<bos>", ids.get("<s>"))
        self.end = ids.get("<eos>", ids.get("</s>"))

    @cached_property
    def processor(self) -> tokenizers.Tokenizer:
        with _reading(self.source):
            processor = tokenizers.Tokenizer.from_buffer(self.model)
            processor.no_truncation()
            processor.no_padding()
            return processor

    def _encode(self, text: str, add_special_tokens: bool = False) -> tokenizers.Encoding:
        with _reading(self.source):
            return self.processor.encode(text, add_special_tokens=add_special_tokens)

    def with_special_tokens(self, text: str) -> list[int]:
        return self._encode(text, add_special_tokens=True).ids

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": self._encode(text).ids}

    def spans(self, text: str) -> Iterator[Span]:
        encoding = self._encode(text)
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            yield token, start, end

    def get_vocab(self) -> dict[str, int]:
        return self.processor.get_vocab()

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        with _reading(self.source):
            return self.processor.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def state_dict(self) -> dict[str, Tensor]:
        return {"tokenizer_json": torch.frombuffer(bytearray(self.model), dtype=torch.uint8)}


# By the name of its tensor, and by the name of its file.
FORMS = {"spiece_model": SentencePieceTokenizer, "tokenizer_json": JsonTokenizer}
FILES = {name: FORMS[key] for name, key in TOKENIZERS.items()}
# For ComfyUI's own T5 files, which have no tokenizer inside.
HOST_T5 = Path(comfy.text_encoders.t5.__file__).parent / "t5_tokenizer" / "tokenizer.json"
HOST_T5_VOCAB_SIZE = 32_128


def open_tokenizer(
    file: Path, weights: Mapping[str, Tensor], vocab_size: int, prompt_format: PromptFormat
) -> Tokenizer:
    """The tokenizer among the `weights` of `file`, or in a file beside it, ready to use.

    Raises ValueError if there is none, if it cannot be read, or if it is another model's: one with
    other begin and end tokens than `prompt_format`, or more tokens than `vocab_size`, the number of
    embeddings. The text says which file to put where. Of `weights` only a tokenizer's tensor needs
    its data.
    """
    problems = []
    for form, model, source in _tokenizers(file, weights, vocab_size, prompt_format):
        try:
            tokenizer = form(model, source)
            tokenizer(_ANY_TEXT)
        except ValueError as error:
            problems.append(str(error))
            continue
        problem = _mismatch(tokenizer, vocab_size, prompt_format, file)
        if problem is None:
            return tokenizer
        problems.append(f"{source} {problem}")
    raise ValueError(problems[0] if problems else _missing(file, prompt_format))


def _mismatch(
    tokenizer: Tokenizer, vocab_size: int, prompt_format: PromptFormat, file: Path
) -> str | None:
    tokens, expected = (tokenizer.begin, tokenizer.end), (prompt_format.begin, prompt_format.end)
    if prompt_format.has_fixed_tokens and tokens != expected:
        return (
            f"is another model's tokenizer: the tokens that begin and end a text are {tokens}, not "
            f"{expected}. {_advice(file, prompt_format)}"
        )
    # Gemma-3's tokenizer has a picture token, for which the smallest model has no embedding.
    size = tokenizer.size if prompt_format.has_fixed_tokens else tokenizer.text_size
    if size > vocab_size:
        return (
            f"knows {size:,} tokens, but {file.name} has embeddings for {vocab_size:,}: "
            "they belong to different models. Use the tokenizer that came with the weights."
        )
    return None


def _missing(file: Path, prompt_format: PromptFormat) -> str:
    return f"{file.name} comes without a tokenizer. {_advice(file, prompt_format)}"


def _advice(file: Path, prompt_format: PromptFormat) -> str:
    name, alternative = prompt_format.tokenizer_file, ""
    if not _has_folder_of_its_own(file):
        alternative = (
            f"; where other models live there too, call it {file.stem}.{name} or "
            f"{file.stem}.tokenizer.json"
        )
    return (
        f"Put {name} or tokenizer.json of {prompt_format.published_as} beside it, into "
        f"{file.parent.name}{alternative}."
    )


def _tokenizers(
    file: Path, weights: Mapping[str, Tensor], vocab_size: int, prompt_format: PromptFormat
) -> Iterator[tuple[type[Tokenizer], bytes, str]]:
    """Class, bytes, and name in errors of each tokenizer that may be the model's, best first."""
    for key, form in FORMS.items():
        if key in weights:
            content = weights[key].flatten().view(torch.uint8).numpy().tobytes()
            yield form, content, f'"{key}" in {file.name}'
    for candidate, form in _candidates(file):
        if candidate.is_file():
            yield form, candidate.read_bytes(), candidate.name
    is_t5 = prompt_format == PROMPT_FORMATS["t5"] and vocab_size == HOST_T5_VOCAB_SIZE
    if is_t5 and not _has_folder_of_its_own(file):
        yield JsonTokenizer, HOST_T5.read_bytes(), "ComfyUI's tokenizer for T5"


def _has_folder_of_its_own(file: Path) -> bool:
    return (file.parent / "config.json").is_file()


def _candidates(file: Path) -> list[tuple[Path, type[Tokenizer]]]:
    # Those named after the file first: its folder may have the text encoders of several models.
    named = [(file.with_name(f"{file.stem}.{name}"), form) for name, form in FILES.items()]
    folders = [file.parent, file.parent.parent / "tokenizer"]  # the latter in a diffusers pipeline
    return named + [(folder / name, form) for folder in folders for name, form in FILES.items()]
