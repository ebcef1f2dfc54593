"""A name in a dropdown to CLIP, the way the host's own loader does it.

CLIPs made here can be rebuilt by the host from their arguments (`cached_patcher_init`), which
torch.compile, hooks and several GPUs need when weights are streamed.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ...lumina.checkpoints.files import json_object
from ...lumina.prompts.formats import PROMPT_FORMATS
from ..checkpoints.folders import TEXT_ENCODERS, Stored, locate
from ..checkpoints.reading import Metadata, ModelOptions, Weights, read, read_headers
from ..prompts.tokenizer import HostTokenizer
from ..prompts.vocabulary import FORMS, check_tokenizer, open_tokenizer
from .clip import HostTextEncoder
from .recognition import recognize

DEVICES = ("default", "cpu")


def load_text_encoder(name: str, device: str = "default") -> CLIP:
    """The CLIP of a name from `folders.names(TEXT_ENCODERS)`, tokenizer included.

    Raises ValueError or FileNotFoundError that say what is wrong with which file.
    """
    cpu = torch.device("cpu")
    options = {"load_device": cpu, "offload_device": cpu} if device == "cpu" else {}
    return _load(locate(TEXT_ENCODERS, name), options)


def load_text_encoder_file(path: str, options: ModelOptions, disable_dynamic: bool = False) -> CLIP:
    """The CLIP of a file or folder. options: the host's `model_options` for text encoders."""
    return _load(Stored.at(TEXT_ENCODERS, Path(path)), options, disable_dynamic)


def _load(stored: Stored, options: ModelOptions, disable_dynamic: bool = False) -> CLIP:
    weights, metadata = read(stored)
    weights, _ = comfy.utils.convert_old_quants(_text_weights(weights), "", dict(metadata))
    config_json = _config_json(stored, weights, metadata)
    encoder = recognize(weights, config_json, source=stored.name)
    tokenizer = open_tokenizer(stored.files[0], weights, encoder.vocabulary, encoder.prompt_format)
    prompt_format = encoder.prompt_format_with(tokenizer)
    native = _in_asked_type(encoder.weights, options)
    target = comfy.supported_models_base.ClipTarget(HostTokenizer, HostTextEncoder)
    target.params = {
        "network": encoder.network,
        "sizes": encoder.sizes,
        "prompt_format": prompt_format,
    }
    clip = CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        tokenizer_data={
            "tokenizer": tokenizer,
            "prompt_format": prompt_format,
            "width": encoder.width,
            "saved": _as_tensor(config_json),
        },
        parameters=comfy.utils.calculate_parameters(native),
        state_dict=[native],
        model_options={**_text_options(native), **options},
        disable_dynamic=disable_dynamic,
    )
    clip.patcher.cached_patcher_init = (load_text_encoder_patcher, (str(stored.path), options))
    return clip


def check_text_encoder(stored: Stored) -> None:
    """Raise ValueError for what is wrong with a text encoder's file, as far as its header tells.

    Its tokenizer is opened as well.
    """
    found = read_headers(stored, with_data=(*FORMS, CONFIG))
    if found is None:
        return
    weights, metadata = _text_weights(found[0]), found[1]
    config_json = _config_json(stored, weights, metadata)
    encoder = recognize(weights, config_json, source=stored.name)
    check_tokenizer(stored.files[0], weights, encoder.vocabulary, encoder.prompt_format)


def load_text_encoder_patcher(
    path: str, options: ModelOptions, disable_dynamic: bool = False
) -> ModelPatcher:
    """What the host calls when it needs the text encoder's weights afresh."""
    return load_text_encoder_file(path, options, disable_dynamic).patcher


def _in_asked_type(weights: dict[str, Tensor], options: ModelOptions) -> dict[str, Tensor]:
    """Matrices in the type that `options` ask for, if any; vectors, such as norms, are small."""
    if "dtype" not in options:
        return weights
    return {k: w.to(options["dtype"]) if w.ndim > 1 else w for k, w in weights.items()}


def _text_options(native: Weights) -> dict[str, object]:
    quantization = comfy.utils.detect_layer_quantization(native, "")
    if quantization:
        return {"quantization_metadata": quantization}
    dtype = comfy.utils.weight_dtype(native)
    # Left to itself the host makes float16 of all, which loses bfloat16's smallest numbers.
    return {} if dtype == torch.float32 else {"dtype": dtype}


CONFIG = "text_encoder_config"  # config.json as a tensor: the host's savers keep no metadata


def _config_json(stored: Stored, weights: Weights, metadata: Metadata) -> dict[str, object]:
    """What a text encoder's config.json says: that in its file, and that of its folder."""
    said = json_object(metadata.get("config", "{}"), f'"config" in the metadata of {stored.name}')
    if CONFIG in weights:
        said |= json_object(weights[CONFIG].numpy().tobytes(), f'"{CONFIG}" in {stored.name}')
    return {**said, **stored.config_json}


def _as_tensor(config_json: Mapping[str, object]) -> dict[str, Tensor]:
    text = bytearray(json.dumps(config_json).encode())
    return {CONFIG: torch.frombuffer(text, dtype=torch.uint8)} if config_json else {}


def _text_weights(weights: Weights) -> dict[str, Tensor]:
    """The text encoder's part of a file, without the prefixes that the host's savers write."""
    saved = "text_encoders."
    if any(key.startswith(saved) for key in weights):
        weights = {
            key.removeprefix(saved): tensor
            for key, tensor in weights.items()
            if key.startswith(saved)
        }
    names = tuple(f"{prompt_format.name}." for prompt_format in PROMPT_FORMATS.values())
    return {
        _without(("transformer.",), _without(names, key)): tensor
        for key, tensor in weights.items()
        if not key.endswith("logit_scale")
    }


def _without(prefixes: Iterable[str], key: str) -> str:
    found = next(filter(key.startswith, prefixes), "")
    return key.removeprefix(found)
