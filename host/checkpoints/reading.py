"""Reads weights files through the host: all of their tensors, or only their headers."""

from collections.abc import Collection, Mapping
from pathlib import Path

import comfy.utils
import safetensors
import torch
from torch import Tensor

from ...lumina.checkpoints import shards
from ...lumina.checkpoints.broken_files import SAFETENSORS, explain_unreadable
from ...lumina.checkpoints.files import read_file
from .folders import Stored

Weights = Mapping[str, Tensor]
Metadata = Mapping[str, str]
ModelOptions = Mapping[str, object]


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
        loaded, file_metadata = comfy.utils.load_torch_file(str(file), return_metadata=True)
        tensors.append(loaded)
        metadata.update(file_metadata or {})
    return shards.merge(tensors, stored.name), metadata


def read_headers(
    stored: Stored, with_data: Collection[str] = ()
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """As `read`, but tensors are on device "meta", as uint8 or, for any other dtype, float32.

    Tensors whose name, or the part of it after the last dot, is in `with_data` come with their
    data. None where headers are not enough: for torch files, and for parts that must be joined.
    """
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    count = 0
    for file in stored.files:
        if file.suffix.lower() not in SAFETENSORS:
            return None
        in_file, file_metadata = _header(file, with_data)
        tensors.update(in_file)
        metadata.update(file_metadata)
        count += len(in_file)
    return (tensors, metadata) if tensors and len(tensors) == count else None


def _header(file: Path, with_data: Collection[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safetensors.safe_open(file, framework="pt") as opened:
        tensors = {key: _on_meta(opened.get_slice(key)) for key in opened.keys()}
        for key in tensors:
            if key.rpartition(".")[2] in with_data:
                tensors[key] = opened.get_tensor(key)
        return tensors, opened.metadata() or {}


def _on_meta(entry: "safetensors.PySafeSlice") -> Tensor:
    dtype = torch.uint8 if entry.get_dtype() == "U8" else torch.float32
    return torch.empty(entry.get_shape(), dtype=dtype, device="meta")
