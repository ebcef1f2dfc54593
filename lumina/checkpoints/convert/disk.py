"""Writing a file safely: checks of its path and of free space, then write and rename.

An error or an interruption leaves no partial file behind.
"""

import atexit
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO


def check_target(file: Path, folder: Path) -> None:
    """Raise ValueError or OSError unless `folder` may be packed into a file at this path."""
    if file.suffix.lower() != ".safetensors":
        raise ValueError(f'The file to write must end in .safetensors, not "{file.name}".')
    if not file.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {file.parent} to write {file.name} to.")
    if file.is_dir():
        raise FileExistsError(f"{file} is a folder. Choose another name.")
    if folder.resolve() in file.resolve().parents:
        raise ValueError(
            f"{file.name} would lie in {folder.name}, the folder it is made from, which would "
            "then hold two models. Write it beside the folder."
        )


def check_space(folder: Path, size: int) -> None:
    """Raise OSError unless the disk of `folder` has room for `size` bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            f"The file takes {in_words(size)}, and the disk of {folder} has {in_words(free)} left. "
            "Make room, or choose a smaller type."
        )


def is_equal(file: Path, pieces: Iterator[tuple[int, memoryview]], size: int) -> bool:
    """Whether a file consists of these (offset, bytes) pieces already, `size` bytes in all."""
    if file.stat().st_size != size:
        return False
    with file.open("rb") as existing:
        for offset, piece in pieces:
            existing.seek(offset)
            # As bytes: memoryviews are compared number by number.
            if existing.read(len(piece)) != bytes(piece):
                return False
    return True


@contextmanager
def atomic_write(file: Path) -> Iterator[BinaryIO]:
    """A temporary file to write to; it is renamed to `file` at the end, deleted after an error.

    Raises OSError that says so if the disk becomes full.
    """
    unfinished = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    remove = partial(unfinished.unlink, missing_ok=True)
    atexit.register(remove)  # ComfyUI quits without waiting for the thread that writes
    try:
        with unfinished.open("xb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())  # some disks report only now that they are full
        os.replace(unfinished, file)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            f"The disk of {file.parent} became full, and {file.name} was not written. Make room."
        ) from error
    finally:
        remove()
        atexit.unregister(remove)


def in_words(size: int) -> str:
    """A number of bytes for messages: "5.01 GB", "20.3 MB"."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
