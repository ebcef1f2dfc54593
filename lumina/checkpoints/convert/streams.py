"""Reads the tensors of a weights file in pieces of at most `PIECE` bytes, one after another.

So a file may be larger than memory. Safetensors files (github.com/huggingface/safetensors,
"Format") are read piece by piece; torch files are memory-mapped by `files.read_file`.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..files import SAFETENSORS, read_file

PIECE = 4 * 2**20  # bytes; larger ones leave the processor's cache and are slower
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TYPE_NAMES = {dtype: name for name, dtype in FLOATS.items()} | {
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

Pieces = Iterator[tuple[str, memoryview]]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as a safetensors header describes it; size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Shard:
    """The tensors of one file, whose bytes stay on disk.

    read(names) yields (name, the tensor's next bytes) until all are read. It reuses its buffer, so
    each piece is valid only until the next one.
    """

    tensors: Mapping[str, TensorInfo]
    read: Callable[[Collection[str]], Pieces]


def open_shard(path: Path) -> Shard:
    """A weights file of which only the header is read. Raises ValueError as `read_file` does."""
    return _open_safetensors(path) if path.suffix.lower() in SAFETENSORS else _open_pickled(path)


def metadata_of(path: Path) -> dict[str, str]:
    """The texts in a safetensors file's header, {} for other files. Raises as `open_shard`."""
    if path.suffix.lower() not in SAFETENSORS:
        return {}
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return dict(header.get("__metadata__") or {})


def bytes_as_shard(name: str, content: bytes) -> Shard:
    """A shard of one tensor, which holds the bytes of `content`."""
    info = TensorInfo("U8", (len(content),), len(content))
    return Shard({name: info}, lambda names: ((name, memoryview(content)) for name in names))


def _open_safetensors(path: Path) -> Shard:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    tensors, offsets = {}, {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        tensors[name] = TensorInfo(entry["dtype"], tuple(entry["shape"]), end - start)
        offsets[name] = 8 + length + start
    return Shard(tensors, partial(_read_safetensors, path, tensors, offsets))


def _read_safetensors(
    path: Path,
    tensors: Mapping[str, TensorInfo],
    offsets: Mapping[str, int],
    names: Collection[str],
) -> Pieces:
    # Not memory-mapped: mapped pages count as this process's memory until others need it.
    buffer = memoryview(bytearray(PIECE))
    with path.open("rb") as file:
        for name in sorted(names, key=offsets.__getitem__):
            file.seek(offsets[name])
            for start in range(0, tensors[name].size, PIECE):
                piece = buffer[: min(PIECE, tensors[name].size - start)]
                if file.readinto(piece) < len(piece):
                    raise ValueError(f"{path.name} became shorter while it was read.")
                yield name, piece


def _open_pickled(path: Path) -> Shard:
    tensors = {}
    for name, tensor in read_file(path).items():
        if tensor.dtype not in TYPE_NAMES or tensor.layout is not torch.strided:
            raise ValueError(
                f'"{name}" in {path.name} is {tensor.dtype}, {tensor.layout}, which safetensors '
                "cannot hold."
            )
        tensors[name] = TensorInfo(TYPE_NAMES[tensor.dtype], tuple(tensor.shape), tensor.nbytes)
    return Shard(tensors, partial(_read_pickled, path))


def _read_pickled(path: Path, names: Collection[str]) -> Pieces:
    tensors = read_file(path)  # opened again, so that only one shard is mapped at a time
    for name in names:
        for piece in in_pieces(tensors[name].detach()):
            yield name, bytes_of(piece)


def bytes_of(numbers: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, as they stand in memory."""
    return memoryview(numbers.view(-1).view(torch.uint8).numpy().data)


def in_pieces(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor's numbers in order as 1-D tensors of at most PIECE bytes; also of strided views."""
    if tensor.numel() == 0:
        return
    if tensor.is_contiguous() or tensor.nbytes <= PIECE:
        dense = tensor.contiguous()
        flat = dense.as_strided(
            (dense.numel(),), (1,)
        )  # view() would keep the stride of a single number
        yield from flat.split(PIECE // tensor.itemsize)
        return
    rows = PIECE // tensor[0].nbytes
    for part in tensor.split(rows) if rows else tensor.unbind():
        yield from in_pieces(part)
