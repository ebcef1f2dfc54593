"""Writes a converted file: whole or not at all, and never in place of another one unasked."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..wording import listed
from .disk import atomic_write, check_space, is_equal

Pieces = Iterator[tuple[int, memoryview]]


class SourceFiles:
    """The files that a conversion reads, as they were when this was made."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.before = self._states()

    def check_unchanged(self, doing: str) -> None:
        """Raise ValueError naming the files that were written to or replaced since."""
        states = zip(self.files, self.before, self._states(), strict=True)
        changed = [file.name for file, before, now in states if before != now]
        if changed:
            raise ValueError(
                f"{listed(changed)} changed while it was being {doing}, so nothing was written: "
                "parts of two models would be mixed. Wait until the download is complete, and "
                "start again."
            )

    def _states(self) -> list[tuple[int, int, int]]:
        stats = [file.stat() for file in self.files]
        return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]


@dataclass(frozen=True)
class Conversion:
    """A file that is to be written.

    pieces(): all its bytes as (offset, piece), each time anew. sources: what it is made from.
    result, doing: words for messages, such as "gemma-2b packed as bfloat16" and "packed".
    """

    file: Path
    size: int
    pieces: Callable[[], Pieces]
    sources: SourceFiles
    result: str
    doing: str

    def write(self, *, overwrite: bool) -> bool:
        """Write the file. Returns False if it was there already, the same to the last byte.

        Raises FileExistsError for another file of that name, also one that appears meanwhile,
        unless it may be overwritten; OSError if the disk has too little room; ValueError if a
        source changes meanwhile. All leave the disk as it was.
        """
        if self.file.exists():
            if self._is_there():
                return False
            if not overwrite:
                raise FileExistsError(
                    f"{self.file.name} is in {self.file.parent} already, and it is not "
                    f"{self.result}. Choose another name, or allow it to be overwritten."
                )
        check_space(self.file.parent, self.size)
        try:
            self._write(overwrite)
        except FileExistsError as error:
            if self._is_there():
                return False
            raise FileExistsError(self._other_was_first()) from error
        return True

    def _write(self, overwrite: bool) -> None:
        with atomic_write(self.file, overwrite=overwrite) as unfinished:
            for offset, piece in self.pieces():
                unfinished.seek(offset)
                unfinished.write(piece)
            self.sources.check_unchanged(self.doing)

    def _is_there(self) -> bool:
        return is_equal(self.file, self.pieces(), self.size)

    def _other_was_first(self) -> str:
        written = time.strftime("%X", time.localtime(self.file.stat().st_mtime))
        return (
            f"Another program was first: it wrote {self.file.name} into {self.file.parent} at "
            f"{written}, while the same was being {self.doing}. Its file was left as it is. "
            "Choose another name, or allow it to be overwritten."
        )
