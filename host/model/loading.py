"""A name in a dropdown to MODEL, the way the host's own loader does it.

MODELs made here can be rebuilt by the host from their arguments (`cached_patcher_init`), which
torch.compile, hooks and several GPUs need when weights are streamed.
"""

import json
from pathlib import Path

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...lumina.checkpoints import key_names
from ...lumina.checkpoints.architecture import checked_config
from ...lumina.config import PX_PER_LATENT
from ..checkpoints.folders import MODELS, Stored, locate
from ..checkpoints.reading import Metadata, Options, Weights, read, read_headers
from ..options.guidance import Guidance
from .base_model import LuminaNextConfig

WEIGHT_DTYPES: dict[str, dict[str, object]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
LATENT_FORMATS = {"SDXL": comfy.latent_formats.SDXL, "SD1.5": comfy.latent_formats.SD15}
RELEASED_SIZE_PX = 1024


def load_model(
    name: str, weight_dtype: str = "default", latent_format: str = "SDXL"
) -> ModelPatcher:
    """The MODEL of a name from `folders.names(MODELS)`, guided as the released code does.

    Raises ValueError or FileNotFoundError that say what is wrong with which file.
    """
    return _load(locate(MODELS, name), WEIGHT_DTYPES[weight_dtype], latent_format)


def load_model_file(
    path: str, model_options: Options, latent_format: str, disable_dynamic: bool = False
) -> ModelPatcher:
    """The MODEL of a file or folder; the host calls this again when it needs a fresh one."""
    return _load(Stored.at(MODELS, Path(path)), model_options, latent_format, disable_dynamic)


def _load(
    stored: Stored, model_options: Options, latent_format: str, disable_dynamic: bool = False
) -> ModelPatcher:
    weights, metadata = read(stored)
    native = key_names.to_native(weights, stored.name)
    config = checked_config(native, stored.name)
    _check_channels(config.in_channels, latent_format, stored.name)
    native = _with_quantization(native, metadata, key_names.prefix_of(weights, stored.name))
    model_config = LuminaNextConfig(
        config, LATENT_FORMATS[latent_format], _trained_size_px(stored, metadata)
    )
    patcher = _build_model(model_config, native, model_options, disable_dynamic)
    patcher.set_model_sampler_post_cfg_function(Guidance())
    arguments = (str(stored.path), model_options, latent_format)
    patcher.cached_patcher_init = (load_model_file, arguments)
    return patcher


def check_model(stored: Stored) -> None:
    """Raise ValueError for what is wrong with a model's file, as far as its header tells."""
    found = read_headers(stored)
    if found is None:
        return
    weights, _ = found
    prefix = key_names.prefix_of(weights, stored.name)
    once: dict[str | None, str] = {}
    for key in weights:  # diffusers stores some twice; without data they cannot be compared
        once.setdefault(key_names.NEXT_DIT_KEYS(key.removeprefix(prefix)), key)
    native = key_names.to_native({key: weights[key] for key in once.values()}, stored.name)
    checked_config(native, stored.name)


def _check_channels(channels: int, latent_format: str, source: str) -> None:
    """Raise ValueError for a model whose latents no VAE of `latent_format` makes or reads."""
    of_format = LATENT_FORMATS[latent_format]().latent_channels
    if channels != of_format:
        raise ValueError(
            f"{source} was trained on latents of {channels} channels, and those of "
            f"{latent_format} have {of_format}. Only models for {' or '.join(LATENT_FORMATS)} "
            "latents can be loaded."
        )


def _trained_size_px(stored: Stored, metadata: Metadata) -> int:
    """Side of the pictures the model was trained on: what its file or folder says, or 1024."""
    said = metadata.get("trained_size_px", "")
    if said.isdecimal():
        return int(said)
    latent_side = stored.config_json.get("sample_size")
    return PX_PER_LATENT * latent_side if latent_side else RELEASED_SIZE_PX


def _build_model(
    config: LuminaNextConfig,
    weights: dict[str, Tensor],
    model_options: Options,
    disable_dynamic: bool,
) -> ModelPatcher:
    management = comfy.model_management
    load_device = model_options.get("load_device", management.get_torch_device())
    offload_device = model_options.get("offload_device", management.unet_offload_device())
    _choose_dtypes(config, weights, model_options, load_device)
    model = config.get_model(weights, "")
    patcher = _patcher_class(disable_dynamic)(model, load_device, offload_device)
    if not management.is_device_cpu(offload_device):
        model.to(offload_device)
    assign = patcher.is_dynamic()
    if management.is_device_cpu(load_device) and not config.quant_config:
        # Where they are computed with, they stay mapped from the file: copies would be a second
        # set of them in memory.
        assign = True
        if "dtype" in model_options or config.manual_cast_dtype is None:
            weights = {key: weight.to(model.get_dtype()) for key, weight in weights.items()}
    model.load_model_weights(weights, "", assign=assign)
    return patcher


def _patcher_class(disable_dynamic: bool) -> type[ModelPatcher]:
    # Looked up at each call: the host replaces CoreModelPatcher after packs are imported.
    module = comfy.model_patcher
    return module.ModelPatcher if disable_dynamic else module.CoreModelPatcher


def _choose_dtypes(
    config: LuminaNextConfig, weights: Weights, model_options: Options, device: torch.device
) -> None:
    """In which dtype the weights are kept and computed with, as the host's own loader decides."""
    management, supported = comfy.model_management, config.supported_inference_dtypes
    config.quant_config = comfy.utils.detect_layer_quantization(weights, "")
    stored = None if config.quant_config else comfy.utils.weight_dtype(weights)
    dtype = model_options.get("dtype") or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights),
        supported_dtypes=supported,
        weight_dtype=stored,
    )
    if management.is_device_cpu(device) and dtype == torch.float32 and not args.fp32_unet:
        dtype = stored or dtype  # widened at use: in memory it would double what is loaded
    manual_cast = management.unet_manual_cast(
        None if config.quant_config else dtype, device, supported
    )
    config.set_inference_dtype(dtype, manual_cast)
    config.custom_operations = model_options.get("custom_operations")
    config.optimizations["fp8"] = bool(model_options.get("fp8_optimizations"))


def _with_quantization(native: Weights, metadata: Metadata, prefix: str) -> dict[str, Tensor]:
    """Weights whose quantized layers are marked as the host expects, from older markings too."""
    marks = metadata.get("_quantization_metadata")
    if marks:
        layers = {
            _native_layer(layer.removeprefix(prefix)): mark
            for layer, mark in json.loads(marks)["layers"].items()
        }
        metadata = {"_quantization_metadata": json.dumps({"layers": layers})}
    return comfy.utils.convert_old_quants(dict(native), "", dict(metadata))[0]


def _native_layer(name: str) -> str:
    weight = key_names.NEXT_DIT_KEYS(f"{name}.weight") or name
    return weight.removesuffix(".weight")
