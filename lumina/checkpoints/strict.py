"""The strict check of weights: exactly those that the network has, each of the expected shape.

A missing or unknown weight, or another shape, is an error that names the file: half a model would
draw a gray picture. A quantized layer's scales are accepted along with its weight.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from . import limits
from .key_names import StateDict, is_quantization
from .wording import counted, listed, quoted

GET_ALL = (
    "If the model comes in several files, keep them in one folder and choose any of them or their "
    ".safetensors.index.json; if it is one file, download it again."
)
Shapes = Mapping[str, torch.Size]


def shapes_of(network: nn.Module) -> dict[str, torch.Size]:
    """Name and shape of each weight of a network, which may be on device "meta"."""
    return {key: tensor.shape for key, tensor in network.state_dict().items()}


def check(
    weights: StateDict,
    expected: Shapes,
    source: str,
    *,
    network_name: str,
    shapes_from: str = "the rest of the file",
    advice: str = GET_ALL,
) -> None:
    """Raise ValueError unless names and shapes of `weights` are as expected.

    The text names the first keys at fault, how many there are, and the likely cause. network_name:
    what it calls the network. shapes_from: where the expected shapes come from. advice: what to do
    about missing weights.
    """
    modules = {key.rpartition(".")[0] for key in expected} | {""}
    missing = [key for key in expected if key not in weights]
    unknown = [
        key
        for key in weights.keys() - expected.keys()
        if not is_quantization(key) or key.rpartition(".")[0] not in modules
    ]
    check_names(missing, unknown, len(expected), source, network_name=network_name, advice=advice)
    quantized = {key.rpartition(".")[0] for key in weights if is_quantization(key)}
    for key, shape in expected.items():
        _check_shape(key, weights[key], shape, source, shapes_from)
        if not weights[key].is_floating_point() and key.rpartition(".")[0] not in quantized:
            raise ValueError(
                f"{source} holds {weights[key].dtype} in {quoted(key)}, where numbers with a "
                "fraction belong; without a scale beside it, it cannot be a quantized weight. "
                "Download it again, or use the file that is not quantized."
            )


def check_names(
    missing: Collection[str],
    unknown: Collection[str],
    total: int,
    source: str,
    *,
    network_name: str,
    advice: str = GET_ALL,
) -> None:
    """Raise ValueError if any of the network's `total` weights is missing, or any is unknown."""
    others = f"It has {_described(unknown)} that {network_name} does not know. " if unknown else ""
    if missing:
        raise ValueError(
            f"{source} is incomplete: {len(missing)} of {counted(total, 'weight')} "
            f"{'is' if len(missing) == 1 else 'are'} missing ({_quoted(missing)}). {others}{advice}"
        )
    if unknown:
        raise ValueError(
            f"{source} is not a plain {network_name}. {others}Without them it would be another "
            "model than was trained, so it is not loaded."
        )


def _described(keys: Collection[str]) -> str:
    return f"{counted(len(keys), 'weight')} ({_quoted(keys)})"


def _quoted(keys: Collection[str]) -> str:
    return listed([quoted(key) for key in sorted(keys)])


def _check_shape(
    key: str, weight: Tensor, expected: torch.Size, source: str, shapes_from: str
) -> None:
    is_packed = is_four_bit(weight) and weight.ndim == len(expected) > 1
    if weight.shape != expected and not is_packed:
        raise ValueError(
            f"{source} does not fit together: {quoted(key)} is {_shape_text(weight.shape)} where "
            f"{shapes_from} asks for {_shape_text(expected)}. Parts of two models may be mixed."
        )


def _shape_text(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def is_four_bit(weight: Tensor) -> bool:
    """Whether a weight is stored in 4 bits: each byte holds two values of a row."""
    return weight.dtype == torch.uint8


def size(weights: StateDict, key: str, source: str, axis: int = 0) -> int:
    """Length of one axis of a weight. Raises ValueError if it is missing or of no model's size."""
    if key not in weights:
        raise ValueError(f'{source} is incomplete: it has no "{key}". {GET_ALL}')
    shape = weights[key].shape
    if axis >= len(shape) or not 1 <= shape[axis] <= limits.SIZE:
        raise ValueError(
            f'{source} does not fit together: "{key}" is {_shape_text(shape)}, and its axis '
            f"{axis + 1} should be from 1 to {limits.SIZE:,} long. Download it again."
        )
    return shape[axis]


def refuse_uncomputable(weights: StateDict, dtype: torch.dtype | None, source: str) -> None:
    """Raise ValueError for weights that torch's own layers cannot compute with as they are."""
    if any(is_quantization(key) for key in weights):
        raise ValueError(
            f"{source} is quantized, which plain torch layers cannot run. Use ComfyUI's loader "
            "node for it, or the file in bfloat16, float16 or float32."
        )
    dtypes = {tensor.dtype for tensor in weights.values()}
    if dtype is None and (len(dtypes) > 1 or any(d.itemsize == 1 for d in dtypes)):
        raise ValueError(
            f"{source} holds {', '.join(sorted(map(str, dtypes)))}, in which torch cannot compute "
            "directly: pass the dtype to run in, for example torch.bfloat16."
        )
