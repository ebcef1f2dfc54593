"""Loads a text encoder by its name in the dropdown as CLIP, as the host's own loader does.

CLIPs made here can be rebuilt by the host from their arguments (`cached_patcher_init`), which
torch.compile, hooks and several GPUs need when weights are streamed.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ...lumina.checkpoints.config_json import check_sizes
from ...lumina.checkpoints.json_files import json_object
from ...lumina.prompts.formats import PROMPT_FORMATS, PromptFormat
from ...lumina.prompts.known_words import KnownWords
from ..checkpoints import quantization
from ..checkpoints.folders import TEXT_ENCODERS, Stored, locate
from ..checkpoints.mapped import MappedFiles
from ..checkpoints.reading import (
    Metadata,
    ModelOptions,
    Weights,
    bytes_in,
    read,
    read_headers,
    reading_model,
)
from ..prompts.tokenizer import HostTokenizer
from ..prompts.vocabulary import FORMS, open_tokenizer
from .clip import HostTextEncoder
from .recognition import Encoder, recognize

DEVICES = ("default", "cpu")
CONFIG = "text_encoder_config"  # config.json as a tensor: the host's savers keep no metadata


def load_text_encoder(name: str, device: str = "default") -> CLIP:
    """The CLIP of a name from `folders.names(TEXT_ENCODERS)`, tokenizer included.

    Raises ValueError or FileNotFoundError that name the file and what is wrong with it.
    """
    cpu = torch.device("cpu")
    options = {"load_device": cpu, "offload_device": cpu} if device == "cpu" else {}
    return _load(locate(TEXT_ENCODERS, name), options)


def load_text_encoder_file(path: str, options: ModelOptions, disable_dynamic: bool = False) -> CLIP:
    """The CLIP of a file or folder. options: the host's `model_options` for text encoders."""
    return _load(Stored.at(TEXT_ENCODERS, Path(path)), options, disable_dynamic)


def _load(stored: Stored, options: ModelOptions, disable_dynamic: bool = False) -> CLIP:
    with reading_model(stored):
        files = MappedFiles(stored.files)
        clip = _build(stored, *read(stored), options, disable_dynamic)
    encoder = clip.cond_stage_model
    if clip.patcher.is_dynamic() or getattr(encoder, encoder.clip).computes_on_cpu:
        encoder.files = files
    return clip


def _build(
    stored: Stored,
    weights: Weights,
    metadata: Metadata,
    options: ModelOptions,
    disable_dynamic: bool,
) -> CLIP:
    weights = quantization.with_quantization(_text_weights(weights), metadata, stored.name)
    config_json = _config_json(stored, weights, metadata)
    encoder = recognize(weights, config_json, source=stored.name)
    tokenizer = open_tokenizer(stored.files[0], weights, encoder.vocab_size, encoder.prompt_format)
    prompt_format = encoder.prompt_format_for(tokenizer)
    wanted = {**_wanted_dtype(encoder.weights), **options}
    native = _with_dtype(encoder.weights, wanted)
    clip = CLIP(
        _clip_target(encoder, prompt_format),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        tokenizer_data={
            "tokenizer": tokenizer,
            "prompt_format": prompt_format,
            "width": encoder.width,
            "known_words": KnownWords.from_config(config_json, stored.name),
            "saved": _config_tensor(config_json),
        },
        parameters=comfy.utils.calculate_parameters(native),
        state_dict=[native],
        model_options={**_dtype_options(native), **wanted},
        disable_dynamic=disable_dynamic,
    )
    clip.patcher.cached_patcher_init = (load_text_encoder_patcher, (str(stored.path), options))
    return clip


def _clip_target(
    encoder: Encoder, prompt_format: PromptFormat
) -> comfy.supported_models_base.ClipTarget:
    target = comfy.supported_models_base.ClipTarget(HostTokenizer, HostTextEncoder)
    target.params = {
        "network": encoder.network,
        "sizes": encoder.sizes,
        "prompt_format": prompt_format,
    }
    return target


def check_text_encoder(stored: Stored) -> None:
    """Raise ValueError naming what is wrong with a text encoder's files or its tokenizer.

    Checks as much as the files' headers tell; the tokenizer is read.
    """
    headers = read_headers(stored, with_data=(*FORMS, CONFIG, quantization.TENSOR))
    if headers is None:
        return
    weights, metadata = _text_weights(headers[0]), headers[1]
    quantization.check_quantization(weights, metadata, stored.name)
    config_json = _config_json(stored, weights, metadata)
    KnownWords.from_config(config_json, stored.name)
    encoder = recognize(weights, config_json, source=stored.name)
    open_tokenizer(stored.files[0], weights, encoder.vocab_size, encoder.prompt_format)


def load_text_encoder_patcher(
    path: str, options: ModelOptions, disable_dynamic: bool = False
) -> ModelPatcher:
    """The patcher of a new CLIP; the host calls this when it needs fresh weights."""
    return load_text_encoder_file(path, options, disable_dynamic).patcher


def _wanted_dtype(weights: Weights) -> dict[str, object]:
    """The dtype that ComfyUI's command line sets for text encoders; quantized files keep theirs."""
    flags = ("fp8_e4m3fn", "fp8_e5m2", "fp16", "bf16", "fp32")
    is_set = any(getattr(args, f"{flag}_text_enc") for flag in flags)
    if not is_set or comfy.utils.detect_layer_quantization(weights, ""):
        return {}
    return {"dtype": comfy.model_management.text_encoder_dtype()}


def _with_dtype(weights: dict[str, Tensor], options: ModelOptions) -> dict[str, Tensor]:
    """Weights with matrices cast to the dtype in `options`, if any; vectors, as of norms, stay."""
    if "dtype" not in options:
        return weights
    return {k: w.to(options["dtype"]) if w.ndim > 1 else w for k, w in weights.items()}


def _dtype_options(native: Weights) -> dict[str, object]:
    quantization = comfy.utils.detect_layer_quantization(native, "")
    if quantization:
        return {"quantization_metadata": quantization}
    dtype = comfy.utils.weight_dtype(native)
    # The host's default is float16 for all, which loses bfloat16's smallest numbers.
    return {} if dtype == torch.float32 else {"dtype": dtype}


def _config_json(stored: Stored, weights: Weights, metadata: Metadata) -> dict[str, object]:
    """A text encoder's config.json: from metadata, tensor and folder, each overriding the last."""
    source = f'"config" in the metadata of {stored.name}'
    config_json = json_object(metadata.get("config", "{}"), source)
    if CONFIG in weights:
        source = f'"{CONFIG}" in {stored.name}'
        config_json |= json_object(bytes_in(weights, CONFIG, stored.name), source)
    config_json |= stored.config_json
    check_sizes(config_json, weights, stored.name)
    return config_json


def _config_tensor(config_json: Mapping[str, object]) -> dict[str, Tensor]:
    text = bytearray(json.dumps(config_json).encode())
    return {CONFIG: torch.frombuffer(text, dtype=torch.uint8)} if config_json else {}


def _text_weights(weights: Weights) -> dict[str, Tensor]:
    """The text encoder's weights in a file, without the prefixes that the host's savers add."""
    checkpoint_prefix = "text_encoders."
    if any(key.startswith(checkpoint_prefix) for key in weights):
        weights = {
            key.removeprefix(checkpoint_prefix): tensor
            for key, tensor in weights.items()
            if key.startswith(checkpoint_prefix)
        }
    prefixes = [f"{prompt_format.name}." for prompt_format in PROMPT_FORMATS.values()]
    return {
        _without_prefix(_without_prefix(key, prefixes), ["transformer."]): tensor
        for key, tensor in weights.items()
        if not key.endswith("logit_scale")
    }


def _without_prefix(key: str, prefixes: Iterable[str]) -> str:
    prefix = next(filter(key.startswith, prefixes), "")
    return key.removeprefix(prefix)
