"""Reads weights files through the host: all of their tensors, or only their headers."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import comfy.utils
import safetensors
import torch
from torch import Tensor

from ...lumina.checkpoints import shards
from ...lumina.checkpoints.convert.streams import TYPE_NAMES
from ...lumina.checkpoints.files import SAFETENSORS, explain_unreadable, read_file, read_file_header
from ...lumina.checkpoints.foreign import reading
from ...lumina.checkpoints.wording import quoted
from .folders import Stored

Weights = Mapping[str, Tensor]
Metadata = Mapping[str, str]
ModelOptions = Mapping[str, object]


# By their names in a safetensors header; any other is a float that only quantized weights have.
_DTYPES = {name: dtype for dtype, name in TYPE_NAMES.items()} | {
    "C64": torch.complex64,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}


@contextmanager
def reading_model(stored: Stored) -> Iterator[None]:
    """As `lumina.checkpoints.foreign.reading`, for a model and all its files."""
    with reading(stored.name, *(file.name for file in stored.files)):
        yield


def read(stored: Stored) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a model, memory-mapped where the host can, and its files' metadata.

    Raises ValueError that names the file and what is wrong with it.
    """
    tensors, metadata = [], {}
    for file in stored.files:
        if file.suffix.lower() not in SAFETENSORS:
            tensors.append(read_file(file))
            continue
        problem = explain_unreadable(file)
        if problem:
            raise ValueError(problem)
        with reading(file.name):
            loaded, file_metadata = comfy.utils.load_torch_file(str(file), return_metadata=True)
        tensors.append(loaded)
        metadata.update(file_metadata or {})
    return shards.merge(tensors, stored.name), metadata


def read_headers(
    stored: Stored, with_data: Collection[str] = ()
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """As `read`, but tensors are on device "meta".

    Tensors of a safetensors file whose name, or the part of it after the last dot, is in
    `with_data` come with their data. None where headers are not enough: where such a tensor is in a
    torch file, and for parts that must be joined.
    """
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    count = 0
    for file in stored.files:
        with reading(file.name):
            in_file, file_metadata = _header(file, with_data)
        tensors.update(in_file)
        metadata.update(file_metadata)
        count += len(in_file)
    lacks_data = any(_is_one_of(key, with_data) and tensors[key].is_meta for key in tensors)
    return (tensors, metadata) if tensors and len(tensors) == count and not lacks_data else None


def bytes_in(weights: Weights, key: str, source: str) -> bytes:
    """The bytes that a weights file holds as a tensor, such as a text. Raises ValueError if not."""
    tensor = weights[key]
    if tensor.dtype is not torch.uint8:
        raise ValueError(
            f"{quoted(key)} in {source} is {tensor.dtype}, where bytes (torch.uint8) were "
            "expected. Download the file again."
        )
    return tensor.numpy().tobytes()


def _header(file: Path, with_data: Collection[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    if file.suffix.lower() not in SAFETENSORS:
        return read_file_header(file), {}
    with safetensors.safe_open(file, framework="pt") as opened:
        tensors = {key: _on_meta(opened.get_slice(key)) for key in opened.keys()}
        for key in tensors:
            if _is_one_of(key, with_data):
                tensors[key] = opened.get_tensor(key)
        return tensors, opened.metadata() or {}


def _is_one_of(key: str, names: Collection[str]) -> bool:
    return key.rpartition(".")[2] in names


def _on_meta(entry: "safetensors.PySafeSlice") -> Tensor:
    dtype = _DTYPES.get(entry.get_dtype(), torch.float32)
    return torch.empty(entry.get_shape(), dtype=dtype, device="meta")
