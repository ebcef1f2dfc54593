"""Writing a file safely: checks of its path and of free space, then write and name.

A file has its name only when it is whole. Where the system allows, it has no name at all until
then, and an error, an interruption or the end of the process leaves nothing behind.
"""

import atexit
import errno
import glob
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

_PART = ".{}.part"  # after the name of a file that is not whole
_PART_NUMBER = 8  # digits
_DESCRIPTORS = Path("/proc/self/fd")  # by which a file without a name is given one
LONGEST_NAME = 255 - len(_PART.format("x" * _PART_NUMBER))  # bytes
_FULL = "The disk of {folder} became full, and {name} was not written. Make room."
_REASONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "{folder} takes no file as large as {name}, which was not written: its disk is "
    'formatted as FAT, or a limit is set for this user ("ulimit -f"). Choose another folder, or a '
    "smaller type.",
}


def check_target(file: Path, folder: Path) -> None:
    """Raise ValueError or OSError unless `folder` may be packed into a file at this path."""
    if file.suffix.lower() != ".safetensors":
        raise ValueError(f'The file to write must end in .safetensors, not "{file.name}".')
    length = len(os.fsencode(file.name))
    if length > LONGEST_NAME:
        raise ValueError(
            f'The name "{file.name[:40]}..." takes {length} bytes, and at most {LONGEST_NAME} are '
            "possible. Choose a shorter one."
        )
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


def remove_abandoned(file: Path) -> int:
    """Delete what killed processes left of `file`, and return its size in bytes.

    What another process is still writing stays.
    """
    removed = 0
    for part in file.parent.glob(glob.escape(file.name) + _PART.format("?" * _PART_NUMBER)):
        try:
            with part.open("rb") as opened:
                is_abandoned, size = _lock(opened), part.stat().st_size
            if is_abandoned:
                part.unlink()
                removed += size
        except OSError:  # gone already, or not ours to delete
            continue
    return removed


@contextmanager
def atomic_write(file: Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A temporary file to write to, which becomes `file` at the end, and is gone after an error.

    Raises FileExistsError if `file` exists at the end and `overwrite` is off, and OSError that says
    so if the disk becomes full or takes no file of this size.
    """
    unfinished = file.with_name(file.name + _PART.format(secrets.token_hex(_PART_NUMBER // 2)))
    remove = partial(unfinished.unlink, missing_ok=True)
    atexit.register(remove)  # ComfyUI quits without waiting for the thread that writes
    try:
        nameless = _open_nameless(file.parent)
        with nameless or unfinished.open("xb") as opened:
            _lock(opened)
            yield opened
            opened.flush()
            os.fsync(opened.fileno())  # some disks report only now that they are full
            if nameless:
                _give_name(opened, unfinished)
        _rename(unfinished, file, overwrite)
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        reason = _REASONS[error.errno].format(folder=file.parent, name=file.name)
        raise OSError(reason) from error
    finally:
        remove()
        atexit.unregister(remove)


def _open_nameless(folder: Path) -> BinaryIO | None:
    """A new file that is gone when its process ends, however it ends. None where there is none."""
    if sys.platform != "linux" or not _DESCRIPTORS.is_dir():
        return None
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666), "wb")
    except OSError:  # not on this disk
        return None


def _give_name(opened: BinaryIO, file: Path) -> None:
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        # Given a folder, os.link follows the link in /proc to the file itself.
        os.link(_DESCRIPTORS / str(opened.fileno()), file.name, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _lock(opened: BinaryIO) -> bool:
    """Mark a file as being written. Returns whether no other process has marked it."""
    if sys.platform == "win32":  # which deletes no file that a program has open
        return True
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # marked, or on a disk that knows no marks
        return False
    return True


def _rename(unfinished: Path, file: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(unfinished, file)
        return
    try:
        os.link(unfinished, file)  # which, other than a renaming, never replaces a file
    except FileExistsError:
        raise
    except OSError:  # a disk without links, such as FAT
        file.open("xb").close()
        os.replace(unfinished, file)


def in_words(size: int) -> str:
    """A number of bytes for messages: "5.01 GB", "20.3 MB"."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
