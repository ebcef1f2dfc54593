"""Files that the demo's scripts write, whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from lumina.checkpoints.convert.disk import atomic_write


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(content)


def write_json(path: Path, content: object) -> None:
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def save_weights(
    weights: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file."""
    # As bytes: safetensors' own file writer makes files that only their owner may read.
    write_bytes(path, save({key: value.contiguous() for key, value in weights.items()}, metadata))


def save_state(state: object, path: Path) -> None:
    """Write what torch.save writes: a checkpoint to go on from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        torch.save(state, file)
