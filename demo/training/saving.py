"""Files that are written whole or not at all: under a temporary name first, then renamed."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then put it in the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    write(unfinished)
    os.replace(unfinished, path)


def write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1) + "\n"
    write_whole(path, lambda unfinished: unfinished.write_text(text))


def save_weights(
    weights: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file."""
    # As bytes: safetensors' own file writer makes files that only their owner may read.
    content = save({key: value.contiguous() for key, value in weights.items()}, metadata)
    write_whole(path, lambda unfinished: unfinished.write_bytes(content))
