"""Weights files read through the host: whole, or their headers only."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import comfy.utils
import safetensors
import torch
from torch import Tensor

from ...lumina.checkpoints import shards
from ...lumina.checkpoints.broken_files import SAFETENSORS, explain_unreadable
from ...lumina.checkpoints.files import read_file
from .folders import ModelKind, parts

Weights = Mapping[str, Tensor]
Metadata = Mapping[str, str]
Options = Mapping[str, object]


def _folder_config(kind: ModelKind, path: Path) -> dict[str, object]:
    """The config.json beside the weights of a Hugging Face folder; empty without one."""
    file = parts(kind, path)[0].parent / "config.json"
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


def read(kind: ModelKind, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a model and its files' metadata, mapped from disk where the host can."""
    tensors, metadata = [], {}
    for file in parts(kind, path):
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


def header(file: Path, whole: Collection[str] = ()) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file without their data, on device "meta", and its metadata.

    Of the types only bytes are told from the rest. With their data come those whose name, or what
    follows its last dot, is in `whole`. Empty for other formats, which must be read.
    """
    if file.suffix.lower() not in SAFETENSORS:
        return {}, {}
    with safetensors.safe_open(file, framework="pt") as opened:
        tensors = {key: _without_data(opened.get_slice(key)) for key in opened.keys()}
        for key in tensors:
            if key.rpartition(".")[2] in whole:
                tensors[key] = opened.get_tensor(key)
        return tensors, opened.metadata() or {}


def _without_data(piece: "safetensors.PySafeSlice") -> Tensor:
    dtype = torch.uint8 if piece.get_dtype() == "U8" else torch.float32
    return torch.empty(piece.get_shape(), dtype=dtype, device="meta")
