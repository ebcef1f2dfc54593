"""In which dtypes a model is stored and computed, as the host's own loader decides it."""

import logging

import comfy.model_management
import comfy.utils
import torch
from comfy.cli_args import args

from ..checkpoints.reading import ModelOptions, Weights
from .base_model import LuminaNextConfig

FLOAT32_NOTICE = (
    "This card does not compute in bfloat16, so Lumina-Next computes in float32, which takes about "
    "four times as long as float16 would. Starting ComfyUI with --fp16-unet makes it compute in "
    "float16; whether that changes the pictures of the released models has not been measured."
)


def choose_dtypes(
    config: LuminaNextConfig, weights: Weights, model_options: ModelOptions, device: torch.device
) -> None:
    """Set the dtypes of storage and computation on `config`, as the host's own loader does."""
    management, supported = comfy.model_management, config.supported_inference_dtypes
    config.quant_config = comfy.utils.detect_layer_quantization(weights, "")
    file_dtype = None if config.quant_config else comfy.utils.weight_dtype(weights)
    dtype = model_options.get("dtype") or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights),
        supported_dtypes=supported,
        weight_dtype=file_dtype,
    )
    if management.is_device_cpu(device) and dtype == torch.float32 and not args.fp32_unet:
        dtype = file_dtype or dtype  # cast at use: float32 weights would double the memory
    manual_cast = management.unet_manual_cast(
        None if config.quant_config else dtype, device, supported
    )
    if model_options.get("computes_in_dtype") and not (args.fp32_unet or args.force_fp32):
        manual_cast = None if dtype == model_options["dtype"] else model_options["dtype"]
    config.set_inference_dtype(dtype, manual_cast)
    if (manual_cast or dtype) == torch.float32 and _has_only_float16(device):
        logging.info(FLOAT32_NOTICE)
    config.custom_operations = model_options.get("custom_operations")
    config.optimizations["fp8"] = bool(model_options.get("fp8_optimizations"))


def _has_only_float16(device: torch.device) -> bool:
    """Whether float32 is for want of bfloat16, on a device that could do it in float16."""
    management = comfy.model_management
    is_wanted = args.fp32_unet or args.force_fp32 or management.is_device_cpu(device)
    has_float16 = management.should_use_fp16(device, prioritize_performance=False)
    return has_float16 and not is_wanted and not management.should_use_bf16(device)
