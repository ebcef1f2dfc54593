"""From a checkpoint to a NextDiT: reading, joining shards, the architecture, strictness.

Everything about the architecture is read from shapes. A weight that is missing, unknown or of the
wrong shape is an error that names the file: a picture from half a model is a grey picture.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .config import NextDiTConfig
from .files import listed, read_file, shard_paths
from .key_names import (
    StateDict,
    is_quantisation,
    is_same,
    to_file_keys,
    to_module_keys,
    to_native,
)
from .model import NextDiT

PATCH_SIZE = 2  # of every Next-DiT; shapes only tell its product with the channels

_LAYER = re.compile(r"layers\.(\d+)\.")
# How fairscale's model parallelism splits a weight between ranks; what is in neither is repeated.
_SPLIT_FIRST_AXIS = re.compile(
    r"(^|\.)(w[qkv]|w[kv]_y|w[13]|x_embedder|t_embedder\.mlp\.0|cap_embedder\.1"
    r"|adaLN_modulation\.1|final_layer\.linear)\.(weight|bias)$|\.attention\.gate$"
)
_SPLIT_SECOND_AXIS = re.compile(r"(^|\.)(wo|w2|t_embedder\.mlp\.2)\.weight$")
_GET_ALL = (
    "If the model comes in several files, keep them in one folder and choose any of them or their "
    ".safetensors.index.json; if it is one file, download it again."
)


def load_next_dit(source: str | Path | StateDict, *, dtype: torch.dtype | None = None) -> NextDiT:
    """A NextDiT on torch's own layers, holding the file's own tensors, ready to run.

    source: a file, a shard, an index or a folder (`files.shard_paths`), or weights under any of
    the known names. dtype None keeps the file's. Raises ValueError or FileNotFoundError that name
    the file and what is wrong with it.
    """
    is_weights = isinstance(source, Mapping)
    name = "The checkpoint" if is_weights else Path(source).name
    native = to_native(source if is_weights else read_state_dict(source), name)
    config = check(native, name)
    _refuse_uncomputable(native, dtype, name)
    model = NextDiT(config, device="meta")
    model.load_state_dict(to_module_keys(native), assign=True)
    return model.to(dtype=dtype).eval().requires_grad_(False)


def read_state_dict(path: str | Path, subfolder: str = "transformer") -> dict[str, Tensor]:
    """All weights of the model that `path` names or is a part of, under the file's own names."""
    return merge([read_file(shard) for shard in shard_paths(path, subfolder)], Path(path).name)


def merge(parts: Sequence[StateDict], source: str = "The checkpoint") -> dict[str, Tensor]:
    """One state dict from those of a model's files, in the order of `files.shard_paths`.

    Files that share no key are united, without copying; files with the same keys are ranks of a
    model-parallel run and are joined. Raises ValueError where that would not give one model.
    """
    if len(parts) > 1 and all(part.keys() == parts[0].keys() for part in parts):
        return _join_ranks(parts, source)
    merged: dict[str, Tensor] = {}
    for part in parts:
        twice = merged.keys() & part.keys()
        if twice:
            raise ValueError(
                f'{source} is not one of {len(parts)} parts of a model: "{min(twice)}" is in more '
                "than one of them."
            )
        merged.update(part)
    return merged


def _join_ranks(parts: Sequence[StateDict], source: str) -> dict[str, Tensor]:
    if any(key.endswith(".q_norm.weight") for key in parts[0]):
        raise ValueError(
            f"{source} is one of {len(parts)} model-parallel parts, each of which normalises "
            "queries and keys over its own heads. Joined they would be another model, so only a "
            "checkpoint saved as 00-of-01 can be loaded."
        )
    return {key: _join(key, [part[key] for part in parts], source) for key in parts[0]}


def _join(key: str, pieces: list[Tensor], source: str) -> Tensor:
    if _SPLIT_FIRST_AXIS.search(key):
        return torch.cat(pieces, dim=0)
    if _SPLIT_SECOND_AXIS.search(key):
        return torch.cat(pieces, dim=1)
    if not all(is_same(pieces[0], piece) for piece in pieces):
        raise ValueError(f'{source}: its {len(pieces)} parts are of different models, see "{key}".')
    return pieces[0]


def config_from_state_dict(native: StateDict, source: str = "The checkpoint") -> NextDiTConfig:
    """The architecture, from the shapes of weights under released names.

    Reads first axes and biases where it can: quantised weights are packed along the second.
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
        if not is_quantisation(key) or key.rpartition(".")[0] not in modules | {""}
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


def _refuse_uncomputable(native: StateDict, dtype: torch.dtype | None, source: str) -> None:
    """Raise for weights that torch's own layers cannot compute with as they are."""
    if any(is_quantisation(key) for key in native):
        raise ValueError(
            f"{source} is quantised, which plain torch layers cannot run. Use ComfyUI's loader "
            "node for it, or the file in bfloat16, float16 or float32."
        )
    dtypes = {tensor.dtype for tensor in native.values()}
    if dtype is None and (len(dtypes) > 1 or any(d.itemsize == 1 for d in dtypes)):
        raise ValueError(
            f"{source} holds {', '.join(sorted(map(str, dtypes)))}, in which torch cannot compute "
            "directly: pass the dtype to run in, for example torch.bfloat16."
        )
