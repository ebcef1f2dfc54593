"""Notices when the weights file of a loaded model changes on disk.

On the CPU, and where the host streams weights to the card, a model's weights are not copied: they
are read from the file while the model runs. Whoever writes into that file then changes the picture,
and whoever shortens it ends the host's process. A copy would double the memory.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class _Found(NamedTuple):
    """What of a file tells whether it is another one, and whether it was written to."""

    identity: tuple[int, int]
    content: tuple[int, int]

    @classmethod
    def of(cls, file: Path) -> "_Found":
        stat = os.stat(file)
        return cls((stat.st_dev, stat.st_ino), (stat.st_size, stat.st_mtime_ns))


class MappedFiles:
    """Weights files as they were when they were opened; made before they are read."""

    def __init__(self, files: Iterable[Path] = ()) -> None:
        self.found = {file: _Found.of(file) for file in files}

    def check(self) -> None:
        """Raise ValueError naming a file that was written to. Takes a few microseconds a file.

        A file that was deleted, or replaced by another of its name, is no trouble: the system keeps
        what is open.
        """
        for file, before in self.found.items():
            try:
                now = _Found.of(file)
            except OSError:
                continue
            if now.identity == before.identity and now.content != before.content:
                raise ValueError(
                    f"{file.name} was written to while it was loaded, and its weights are read "
                    "from there as the model runs. Run the graph again: it is then loaded anew. "
                    "Next time write the new file under another name, and rename it to this one."
                )
