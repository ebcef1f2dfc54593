"""What a file says about its quantized layers: checked, and in the host's current form."""

import json
from collections.abc import Callable

import comfy.utils
from comfy.quant_ops import QUANT_ALGOS
from torch import Tensor

from ...lumina.checkpoints.config_json import group
from ...lumina.checkpoints.json_files import json_object
from ...lumina.checkpoints.wording import quoted, shown
from .reading import Metadata, Weights, bytes_in

METADATA = "_quantization_metadata"  # the formats of all layers, in a file's metadata
TENSOR = "comfy_quant"  # the format of a layer, beside its weight


def with_quantization(
    weights: Weights, metadata: Metadata, source: str, layer_name: Callable[[str], str] = str
) -> dict[str, Tensor]:
    """The weights with the host's current quantization format, converted from its older ones.

    layer_name: the name in `weights` of a layer in the metadata. Raises ValueError for a format
    that the host does not have.
    """
    layers = {layer_name(name): form for name, form in _layers(metadata, source).items()}
    metadata = {METADATA: json.dumps({"layers": layers})} if layers else {}
    converted = comfy.utils.convert_old_quants(dict(weights), "", metadata)[0]
    check_quantization(converted, {}, source)
    return converted


def check_quantization(weights: Weights, metadata: Metadata, source: str) -> None:
    """Raise ValueError for metadata that are none, and for a format that the host does not have.

    Of tensors without data nothing is said.
    """
    _layers(metadata, source)
    for key, tensor in weights.items():
        if key.rpartition(".")[2] != TENSOR or tensor.is_meta:
            continue
        name = f"{quoted(key)} in {source}"
        stated = json_object(bytes_in(weights, key, source), name).get("format")
        if stated not in QUANT_ALGOS:
            raise ValueError(
                f"{name} gives the format {shown(stated)}, where one of {', '.join(QUANT_ALGOS)} "
                "was expected. Update ComfyUI, or use a file that is not quantized."
            )


def _layers(metadata: Metadata, source: str) -> dict[str, object]:
    stated = json_object(metadata.get(METADATA, "{}"), f'"{METADATA}" in {source}')
    return dict(group(stated, "layers"))
