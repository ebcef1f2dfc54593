"""What the kinds about writing share: a folder to pack, and what may be left of it."""

from collections.abc import Callable
from pathlib import Path

import torch

from lumina_next.lumina.checkpoints.convert import disk
from lumina_next.tests.support.encoder_folders import write_folder

ROWS, COLUMNS, SHARDS = 2000, 1000, 3  # float32: 8 MB each


class Packing:
    """A text encoder's folder in `base`, and the file that it is packed into."""

    def __init__(self, base: Path, file_base: Path | None = None) -> None:
        self.folder, self.file = base / "encoder", (file_base or base) / "packed.safetensors"
        shards = [
            {f"model.layers.{i}.weight": torch.full((ROWS, COLUMNS), float(i))}
            for i in range(SHARDS)
        ]
        write_folder(self.folder, shards)
        self.whole = b""

    def leftovers(self) -> list[str]:
        """Names beside the packed file that are none of ours to leave."""
        found = (path.name for path in self.file.parent.iterdir())
        return sorted(name for name in found if name not in (self.file.name, self.folder.name))

    def content(self) -> bytes | None:
        return self.file.read_bytes() if self.file.exists() else None


def without_nameless_files(write: Callable[[], object]) -> object:
    """Write as on a disk that knows no files without a name, in this process from now on."""
    disk._open_nameless = lambda folder: None
    return write()
