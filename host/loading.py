"""A name in a dropdown to MODEL or CLIP, the way the host's own loaders do it.

Objects made here can be rebuilt by the host from their arguments (`cached_patcher_init`), which
torch.compile, hooks and several GPUs need when weights are streamed.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import comfy.latent_formats
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

from ..lumina.checkpoints import architecture, key_names, shards
from ..lumina.checkpoints.broken_files import SAFETENSORS, explain_unreadable
from ..lumina.checkpoints.files import read_file
from ..lumina.prompts.rules import RULES
from .encoders import recognise
from .guidance import Guidance
from .model import LuminaNextConfig
from .model_folders import MODELS, TEXT_ENCODERS, Shelf, header, locate, parts, signature
from .text_encoder import HostTextEncoder
from .tokenizer import HostTokenizer
from .tokenizer_files import FORMS, check_tokenizer, open_tokenizer

WEIGHT_DTYPES: dict[str, dict[str, object]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
LATENT_FORMATS = {"SDXL": comfy.latent_formats.SDXL, "SD1.5": comfy.latent_formats.SD15}
DEVICES = ("default", "cpu")
RELEASED_SIZE_PX = 1024

Weights = Mapping[str, Tensor]
Metadata = Mapping[str, str]
Options = Mapping[str, object]


def load_model(
    name: str, weight_dtype: str = "default", latent_format: str = "SDXL"
) -> ModelPatcher:
    """The MODEL of a name from `model_folders.names(MODELS)`, guided as the released code does.

    Raises ValueError or FileNotFoundError that say what is wrong with which file.
    """
    path = locate(MODELS, name)
    return load_model_file(str(path), WEIGHT_DTYPES[weight_dtype], latent_format)


def load_model_file(
    path: str, model_options: Options, latent_format: str, disable_dynamic: bool = False
) -> ModelPatcher:
    """The MODEL of a file or folder; the host calls this again when it needs a fresh one."""
    source = Path(path).name
    weights, metadata = read(MODELS, Path(path))
    native = key_names.to_native(weights, source)
    config = architecture.check(native, source)
    _check_channels(config.in_channels, latent_format, source)
    native = _with_quantisation(native, metadata, key_names.prefix_of(weights, source))
    patcher = _build_model(
        LuminaNextConfig(
            config, LATENT_FORMATS[latent_format], _trained_size_px(Path(path), metadata)
        ),
        native,
        model_options,
        disable_dynamic,
    )
    patcher.set_model_sampler_post_cfg_function(Guidance())
    patcher.cached_patcher_init = (load_model_file, (path, model_options, latent_format))
    return patcher


def _check_channels(channels: int, latent_format: str, source: str) -> None:
    """Raise ValueError for a model whose latents no VAE of `latent_format` makes or reads."""
    of_format = LATENT_FORMATS[latent_format]().latent_channels
    if channels != of_format:
        raise ValueError(
            f"{source} was trained on latents of {channels} channels, and those of "
            f"{latent_format} have {of_format}. Only models for {' or '.join(LATENT_FORMATS)} "
            "latents can be loaded."
        )


def _trained_size_px(path: Path, metadata: Metadata) -> int:
    """Side of the pictures the model was trained on: what its file or folder says, or 1024."""
    stated = metadata.get("trained_size_px", "")
    if stated.isdecimal():
        return int(stated)
    latent_side = _folder_config(MODELS, path).get("sample_size")
    return 8 * latent_side if latent_side else RELEASED_SIZE_PX


def _folder_config(shelf: Shelf, path: Path) -> dict[str, object]:
    """The config.json beside the weights of a Hugging Face folder; empty without one."""
    file = parts(shelf, path)[0].parent / "config.json"
    is_there = path.is_dir() and file.is_file()
    return _parsed(file.read_bytes(), f"config.json in {file.parent.name}") if is_there else {}


def _parsed(text: str | bytes, source: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{source} is damaged. Download it again.")
    return found


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
    stated = _stated(Path(path), weights, metadata)
    encoder = recognise(weights, stated, source=source)
    file = parts(TEXT_ENCODERS, Path(path))[0]
    tokens = open_tokenizer(file, weights, encoder.vocabulary, encoder.rules)
    rules, native = encoder.rules_with(tokens), _as_asked(encoder.weights, options)
    target = comfy.supported_models_base.ClipTarget(HostTokenizer, HostTextEncoder)
    target.params = {"network": encoder.network, "sizes": encoder.sizes, "rules": rules}
    clip = CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        tokenizer_data={
            "tokens": tokens,
            "rules": rules,
            "width": encoder.width,
            "saved": _as_tensor(stated),
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
    quantisation = comfy.utils.detect_layer_quantization(native, "")
    if quantisation:
        return {"quantization_metadata": quantisation}
    dtype = comfy.utils.weight_dtype(native)
    # Left to itself the host makes float16 of all, which loses bfloat16's smallest numbers.
    return {} if dtype == torch.float32 else {"dtype": dtype}


CONFIG = "text_encoder_config"  # config.json as a tensor: the host's savers keep no metadata


def _stated(path: Path, weights: Weights, metadata: Metadata) -> dict[str, object]:
    """What a text encoder says about itself: the config.json in its folder, or in its file."""
    said = _parsed(metadata.get("config", "{}"), f'"config" in the metadata of {path.name}')
    if CONFIG in weights:
        said |= _parsed(weights[CONFIG].numpy().tobytes(), f'"{CONFIG}" in {path.name}')
    return said | _folder_config(TEXT_ENCODERS, path)


def _as_tensor(stated: Mapping[str, object]) -> dict[str, Tensor]:
    text = bytearray(json.dumps(stated).encode())
    return {CONFIG: torch.frombuffer(text, dtype=torch.uint8)} if stated else {}


def _text_weights(weights: Weights) -> dict[str, Tensor]:
    """The text encoder's part of a file, without the prefixes that the host's savers write."""
    saved = "text_encoders."
    if any(key.startswith(saved) for key in weights):
        weights = {
            key.removeprefix(saved): tensor
            for key, tensor in weights.items()
            if key.startswith(saved)
        }
    names = tuple(f"{rules.name}." for rules in RULES.values())
    return {
        _without(("transformer.",), _without(names, key)): tensor
        for key, tensor in weights.items()
        if not key.endswith("logit_scale")
    }


def _without(prefixes: Iterable[str], key: str) -> str:
    found = next(filter(key.startswith, prefixes), "")
    return key.removeprefix(found)


def _with_quantisation(native: Weights, metadata: Metadata, prefix: str) -> dict[str, Tensor]:
    """Weights whose quantised layers are marked as the host expects, from older markings too."""
    marks = metadata.get("_quantization_metadata")
    if marks:
        layers = {
            key_names.native_name(layer.removeprefix(prefix)): mark
            for layer, mark in json.loads(marks)["layers"].items()
        }
        metadata = {"_quantization_metadata": json.dumps({"layers": layers})}
    return comfy.utils.convert_old_quants(dict(native), "", dict(metadata))[0]


def read(shelf: Shelf, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a model and its files' metadata, mapped from disk where the host can."""
    tensors, metadata = [], {}
    for file in parts(shelf, path):
        if file.suffix.lower() not in SAFETENSORS:
            tensors.append(read_file(file))
            continue
        problem = explain_unreadable(file)
        if problem:
            raise ValueError(problem)
        loaded, found = comfy.utils.load_torch_file(str(file), return_metadata=True)
        tensors.append(loaded)
        metadata.update(found or {})
    return shards.merge(tensors, path.name), metadata


def explain_unusable(shelf: Shelf, name: str) -> str | None:
    """What is wrong with a model on disk, as far as headers and tokenizer tell; None if nothing."""
    try:
        return _explain_unusable(shelf, name, tuple(signature(shelf, name)))
    except (ValueError, FileNotFoundError) as error:
        return str(error)


# Asked at every job for each loader, and a large vocabulary takes a second to read.
@functools.lru_cache(maxsize=32)
def _explain_unusable(shelf: Shelf, name: str, state: tuple) -> str | None:
    try:
        path = locate(shelf, name)
        files = parts(shelf, path)
        problem = next(filter(None, map(explain_unreadable, files)), None)
        if problem is None:
            headers = [header(file, whole=(*FORMS, CONFIG)) for file in files]
            _check_headers(shelf, path, name, headers)
        return problem
    except (ValueError, FileNotFoundError) as error:
        return str(error)


def _check_headers(
    shelf: Shelf, path: Path, name: str, headers: list[tuple[Weights, Metadata]]
) -> None:
    union: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for weights, found in headers:
        union.update(weights)
        metadata.update(found)
    sizes = [len(weights) for weights, _ in headers]
    if not all(sizes) or len(union) < sum(sizes):
        return  # torch files and parts to be joined must be read to know
    if shelf is TEXT_ENCODERS:
        weights = _text_weights(union)
        encoder = recognise(weights, _stated(path, weights, metadata), source=name)
        check_tokenizer(parts(shelf, path)[0], weights, encoder.vocabulary, encoder.rules)
        return
    prefix = key_names.prefix_of(union, name)
    once: dict[str, str] = {}
    for key in union:  # diffusers stores some tensors twice; without data they cannot be compared
        once.setdefault(key_names.native_name(key.removeprefix(prefix)), key)
    architecture.check(key_names.to_native({key: union[key] for key in once.values()}, name), name)
