"""The architecture of a Next-DiT from the shapes of its weights, and whether all of them are there.

A weight that is missing, unknown or of the wrong shape is an error that names the file: a picture
from half a model is a gray picture.
"""

import re

import torch
from torch import Tensor

from ..config import NextDiTConfig
from ..model.next_dit import NextDiT
from .files import listed
from .key_names import StateDict, is_quantization, to_file_keys

PATCH_SIZE = 2  # of every Next-DiT; shapes only tell its product with the channels

_LAYER = re.compile(r"layers\.(\d+)\.")
_GET_ALL = (
    "If the model comes in several files, keep them in one folder and choose any of them or their "
    ".safetensors.index.json; if it is one file, download it again."
)


def config_from_state_dict(native: StateDict, source: str = "The checkpoint") -> NextDiTConfig:
    """The architecture, from the shapes of weights under released names.

    Reads first axes and biases where it can: quantized weights are packed along the second.
    Raises ValueError naming a weight that is missing, or sizes that contradict each other.
    """

    def size(key: str, axis: int = 0) -> int:
        if key not in native:
            raise ValueError(f'{source} is incomplete: it has no "{key}". {_GET_ALL}')
        return native[key].shape[axis]

    columns = size("x_embedder.weight", axis=1) * _values_per_element(native["x_embedder.weight"])
    rows = size("final_layer.linear.bias")
    if rows not in (columns, 2 * columns):
        raise ValueError(
            f"{source} reads {columns} numbers for each patch and writes {rows}; a Next-DiT writes "
            "as many as it reads, or twice as many."
        )
    dim, heads = size("x_embedder.bias"), size("layers.0.attention.gate")
    try:
        return NextDiTConfig(
            dim=dim,
            layers=1 + max(int(match[1]) for match in map(_LAYER.match, native) if match),
            heads=heads,
            kv_heads=size("layers.0.attention.wk.weight") * heads // dim,
            caption_dim=size("cap_embedder.0.weight"),
            ffn_dim=size("layers.0.feed_forward.w1.weight"),
            qk_norm=any(".attention.q_norm." in key for key in native),
            in_channels=columns // PATCH_SIZE**2,
            patch_size=PATCH_SIZE,
            learn_sigma=rows == 2 * columns,
        )
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{source} is not a Next-DiT that can run: {error}.") from error


def _values_per_element(weight: Tensor) -> int:
    """4-bit formats keep two values of a row in each byte."""
    return 2 if weight.dtype == torch.uint8 else 1


def check(native: StateDict, source: str = "The checkpoint") -> NextDiTConfig:
    """The architecture of weights under released names, all there, none too many, all fitting.

    Raises ValueError that names the first keys at fault, how many there are, and the likely cause.
    """
    config = config_from_state_dict(native, source)
    expected = to_file_keys(NextDiT(config, device="meta").state_dict())
    modules = {key.rpartition(".")[0] for key in expected}
    missing = [key for key in expected if key not in native]
    unknown = [
        key
        for key in native.keys() - expected.keys()
        if not is_quantization(key) or key.rpartition(".")[0] not in modules | {""}
    ]
    if missing:
        raise ValueError(
            f"{source} is incomplete: {len(missing)} of {len(expected)} weights are missing "
            f"({_quoted(missing)}). {_unknown_text(unknown)}{_GET_ALL}"
        )
    if unknown:
        raise ValueError(
            f"{source} is not a plain Next-DiT. {_unknown_text(unknown)}Without them it would be "
            "another model than was trained, so it is not loaded."
        )
    _check_shapes(native, expected, source)
    return config


def _quoted(keys: list[str]) -> str:
    return listed([f'"{key}"' for key in sorted(keys)])


def _unknown_text(keys: list[str]) -> str:
    if not keys:
        return ""
    return f"It has {len(keys)} weights that Next-DiT does not know ({_quoted(keys)}). "


def _check_shapes(native: StateDict, expected: StateDict, source: str) -> None:
    for key, example in expected.items():
        found = native[key].shape
        is_packed = _values_per_element(native[key]) > 1
        if found != example.shape and not is_packed:
            raise ValueError(
                f'{source} does not fit together: "{key}" is {_sizes(found)} where the rest of the '
                f"file asks for {_sizes(example.shape)}. Parts of two models may be mixed."
            )


def _sizes(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a single number"
