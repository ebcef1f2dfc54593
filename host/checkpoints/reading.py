"""Weights files read through the host: whole, or their headers only."""

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
Options = Mapping[str, object]


def read(stored: Stored) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a model and its files' metadata, mapped from disk where the host can.

    Raises ValueError saying what is wrong with which file.
    """
    tensors, metadata = [], {}
    for file in stored.files:
        if file.suffix.lower() not in SAFETENSORS:
            tensors.append(read_file(file))
            continue
        problem = explain_unreadable(file)
        if problem:
            raise ValueError(problem)
        loaded, found = comfy.utils.load_torch_file(str(file), return_metadata=True)
        tensors.append(loaded)
        metadata.update(found or {})
    return shards.merge(tensors, stored.name), metadata


def read_headers(
    stored: Stored, with_data: Collection[str] = ()
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """`read` without the tensors' data, which are on device "meta"; of types it knows only bytes.

    With their data come those whose name, or what follows its last dot, is in `with_data`. None
    where headers do not tell: torch files and parts to be joined must be read to know.
    """
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    count = 0
    for file in stored.files:
        if file.suffix.lower() not in SAFETENSORS:
            return None
        in_file, said = _header(file, with_data)
        tensors.update(in_file)
        metadata.update(said)
        count += len(in_file)
    return (tensors, metadata) if tensors and len(tensors) == count else None


def _header(file: Path, with_data: Collection[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safetensors.safe_open(file, framework="pt") as opened:
        tensors = {key: _without_data(opened.get_slice(key)) for key in opened.keys()}
        for key in tensors:
            if key.rpartition(".")[2] in with_data:
                tensors[key] = opened.get_tensor(key)
        return tensors, opened.metadata() or {}


def _without_data(piece: "safetensors.PySafeSlice") -> Tensor:
    dtype = torch.uint8 if piece.get_dtype() == "U8" else torch.float32
    return torch.empty(piece.get_shape(), dtype=dtype, device="meta")
