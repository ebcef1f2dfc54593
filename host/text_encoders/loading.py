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

from ...lumina.prompts.formats import PROMPT_FORMATS
from ..checkpoints.folders import TEXT_ENCODERS, locate, parts
from ..checkpoints.reading import Metadata, Options, Weights, _folder_config, _parsed, read
from ..prompts.tokenizer import HostTokenizer
from ..prompts.vocabulary import open_tokenizer
from .clip import HostTextEncoder
from .recognition import recognize

DEVICES = ("default", "cpu")


def load_text_encoder(name: str, device: str = "default") -> CLIP:
    """The CLIP of a name from `model_folders.names(TEXT_ENCODERS)`, tokenizer included.

    Raises ValueError or FileNotFoundError that say what is wrong with which file.
    """
    cpu = torch.device("cpu")
    options = {"load_device": cpu, "offload_device": cpu} if device == "cpu" else {}
    return load_text_encoder_file(str(locate(TEXT_ENCODERS, name)), options)


def load_text_encoder_file(path: str, options: Options, disable_dynamic: bool = False) -> CLIP:
    """The CLIP of a file or folder. options: the host's `model_options` for text encoders."""
    source = Path(path).name
    weights, metadata = read(TEXT_ENCODERS, Path(path))
    weights, _ = comfy.utils.convert_old_quants(_text_weights(weights), "", dict(metadata))
    config_json = _config_json(Path(path), weights, metadata)
    encoder = recognize(weights, config_json, source=source)
    file = parts(TEXT_ENCODERS, Path(path))[0]
    tokenizer = open_tokenizer(file, weights, encoder.vocabulary, encoder.prompt_format)
    prompt_format, native = (
        encoder.prompt_format_with(tokenizer),
        _as_asked(encoder.weights, options),
    )
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
    clip.patcher.cached_patcher_init = (load_text_encoder_patcher, (path, options))
    return clip


def load_text_encoder_patcher(
    path: str, options: Options, disable_dynamic: bool = False
) -> ModelPatcher:
    """What the host calls when it needs the text encoder's weights afresh."""
    return load_text_encoder_file(path, options, disable_dynamic).patcher


def _as_asked(weights: dict[str, Tensor], options: Options) -> dict[str, Tensor]:
    """In the type that `options` ask for, if any. Vectors, such as norms, are small and stay."""
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


def _config_json(path: Path, weights: Weights, metadata: Metadata) -> dict[str, object]:
    """What a text encoder says about itself: the config.json in its folder, or in its file."""
    said = _parsed(metadata.get("config", "{}"), f'"config" in the metadata of {path.name}')
    if CONFIG in weights:
        said |= _parsed(weights[CONFIG].numpy().tobytes(), f'"{CONFIG}" in {path.name}')
    return said | _folder_config(TEXT_ENCODERS, path)


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
