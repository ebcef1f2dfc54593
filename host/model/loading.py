"""Loads a model by its name in the dropdown as MODEL, as the host's own loader does.

MODELs made here can be rebuilt by the host from their arguments (`cached_patcher_init`), which
torch.compile, hooks and several GPUs need when weights are streamed.
"""

from pathlib import Path

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ...lumina.checkpoints import key_names
from ...lumina.checkpoints.architecture import checked_config
from ...lumina.checkpoints.config_json import size
from ...lumina.checkpoints.fingerprint import fingerprint
from ...lumina.config import PX_PER_LATENT
from ...lumina.options.guidance import Guidance
from ..checkpoints import quantization
from ..checkpoints.folders import MODELS, Stored, locate
from ..checkpoints.mapped import MappedFiles
from ..checkpoints.reading import (
    Metadata,
    ModelOptions,
    read,
    read_headers,
    reading_model,
)
from ..options.guidance import AfterCfg
from .base_model import LuminaNextConfig
from .dtypes import choose_dtypes
from .lora import warn_of_lora_without_effect

WEIGHT_DTYPES: dict[str, dict[str, object]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
    "bf16": {"dtype": torch.bfloat16, "computes_in_dtype": True},
}
LATENT_FORMATS = {"SDXL": comfy.latent_formats.SDXL, "SD1.5": comfy.latent_formats.SD15}
RELEASED_SIZE_PX = 1024


def load_model(
    name: str, weight_dtype: str = "default", latent_format: str = "SDXL"
) -> ModelPatcher:
    """The MODEL of a name from `folders.names(MODELS)`, with the released code's guidance.

    Raises ValueError or FileNotFoundError that name the file and what is wrong with it.
    """
    return _load(locate(MODELS, name), WEIGHT_DTYPES[weight_dtype], latent_format)


def load_model_file(
    path: str, model_options: ModelOptions, latent_format: str, disable_dynamic: bool = False
) -> ModelPatcher:
    """The MODEL of a file or folder; the host calls this again when it needs a fresh one."""
    return _load(Stored.at(MODELS, Path(path)), model_options, latent_format, disable_dynamic)


def _load(
    stored: Stored, model_options: ModelOptions, latent_format: str, disable_dynamic: bool = False
) -> ModelPatcher:
    with reading_model(stored):
        files = MappedFiles(stored.files)
        weights, metadata = read(stored)
        native = key_names.to_native(weights, stored.name)
        config = checked_config(native, stored.name)
        _check_channels(config.in_channels, latent_format, stored.name)
        print_of = fingerprint(native)
        prefix = key_names.prefix_of(weights, stored.name)
        native = quantization.with_quantization(
            native, metadata, stored.name, lambda name: _native_layer(name.removeprefix(prefix))
        )
        size_px = _trained_size_px(stored, metadata)
        model_config = LuminaNextConfig(config, LATENT_FORMATS[latent_format], size_px)
        patcher = _build_model(model_config, native, files, model_options, disable_dynamic)
    patcher.model.fingerprint = print_of
    patcher.set_model_sampler_post_cfg_function(AfterCfg(Guidance()))
    patcher.add_callback(CallbacksMP.ON_PRE_RUN, warn_of_lora_without_effect)
    arguments = (str(stored.path), model_options, latent_format)
    patcher.cached_patcher_init = (load_model_file, arguments)
    return patcher


def check_model(stored: Stored) -> None:
    """Raise ValueError naming what is wrong with a model's files, as far as headers tell."""
    headers = read_headers(stored, with_data=[quantization.TENSOR])
    if headers is None:
        return
    weights, metadata = headers
    checked_config(key_names.to_native(weights, stored.name), stored.name)
    _trained_size_px(stored, metadata)
    quantization.check_quantization(weights, metadata, stored.name)


def _check_channels(channels: int, latent_format: str, source: str) -> None:
    """Raise ValueError if latents of `latent_format` do not have this many channels."""
    expected = LATENT_FORMATS[latent_format]().latent_channels
    if channels != expected:
        raise ValueError(
            f"{source} was trained on latents of {channels} channels, and those of "
            f"{latent_format} have {expected}. Only models for {' or '.join(LATENT_FORMATS)} "
            "latents can be loaded."
        )


def _trained_size_px(stored: Stored, metadata: Metadata) -> int:
    """Side of the training pictures: from the file's metadata or the folder's config, or 1024."""
    stated = metadata.get("trained_size_px", "")
    if stated.isdecimal() and len(stated) < 8 and int(stated):
        return int(stated)
    latent_side = size(stored.config_json, "sample_size", stored.name)
    return PX_PER_LATENT * latent_side if latent_side else RELEASED_SIZE_PX


def _build_model(
    config: LuminaNextConfig,
    weights: dict[str, Tensor],
    files: MappedFiles,
    model_options: ModelOptions,
    disable_dynamic: bool,
) -> ModelPatcher:
    management = comfy.model_management
    load_device = model_options.get("load_device", management.get_torch_device())
    offload_device = model_options.get("offload_device", management.unet_offload_device())
    choose_dtypes(config, weights, model_options, load_device)
    model = config.get_model(weights, "")
    patcher = _patcher_class(disable_dynamic)(model, load_device, offload_device)
    if not management.is_device_cpu(offload_device):
        model.to(offload_device)
    assign = patcher.is_dynamic()
    if management.is_device_cpu(load_device) and not config.quant_config:
        # On the CPU the weights stay memory-mapped: copies would double the memory.
        assign = True
        if "dtype" in model_options or config.manual_cast_dtype is None:
            weights = {key: weight.to(model.get_dtype()) for key, weight in weights.items()}
    model.load_model_weights(weights, "", assign=assign)
    if assign:
        model.files = files
    return patcher


def _patcher_class(disable_dynamic: bool) -> type[ModelPatcher]:
    # Looked up at each call: the host replaces CoreModelPatcher after packs are imported.
    module = comfy.model_patcher
    return module.ModelPatcher if disable_dynamic else module.CoreModelPatcher


def _native_layer(name: str) -> str:
    weight = key_names.NEXT_DIT_KEYS(f"{name}.weight") or name
    return weight.removesuffix(".weight")
