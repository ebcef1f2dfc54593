"""Packs a Hugging Face text-encoder folder into one safetensors file, tokenizer and config inside.

Tensors pass through memory in small pieces, each written at the offset that the header gives it.
Format: github.com/huggingface/safetensors, "Format".
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..files import listed
from .disk import (
    atomic_write,
    check_space,
    check_target,
    in_words,
    is_equal,
    remove_abandoned,
)
from .folders import find_encoder_files
from .layout import FileLayout, Progress, lay_out, pieces_of

DTYPES: dict[str, torch.dtype | None] = {
    "keep": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8_e4m3fn": torch.float8_e4m3fn,
}


@dataclass(frozen=True)
class Packed:
    """The result of `pack`.

    is_new: False if the same file existed already, equal in every byte. clamped: for each tensor,
    how many numbers were too large for fp8. removed: bytes of unfinished files of earlier runs.
    """

    file: Path
    size: int  # bytes
    is_new: bool
    clamped: Counter[str]
    removed: int = 0


def pack(
    folder: str | Path,
    file: str | Path,
    dtype: str = "keep",
    *,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Packed:
    """Write the text encoder in `folder`, which may be a diffusers pipeline, to `file`.

    dtype: a key of `DTYPES`, for tensors of two or more axes. progress(done, total), in bytes, is
    called after every piece; an exception from it stops the work. An equal file is left alone, and
    an error leaves no partial file; one that a killed run left is removed. Raises
    FileNotFoundError, FileExistsError, ValueError or OSError that name the file and what is wrong
    with it, also if a file of the folder changes meanwhile, or if another program writes `file`
    first and may not lose it.
    """
    folder, file = Path(folder), Path(file)
    check_target(file, folder)
    files = find_encoder_files(folder)
    sources = [*files.weights, files.tokenizer]
    before, removed = _states(sources), remove_abandoned(file)
    layout = lay_out(files, DTYPES[dtype], progress)
    if file.exists():
        packed = _already_there(file, layout, progress)
        if packed:
            return packed
        if not overwrite:
            raise FileExistsError(
                f"{file.name} is in {file.parent} already, and it is not {folder.name} packed as "
                f"{dtype}. Choose another name, or allow it to be overwritten."
            )
    check_space(file.parent, layout.size)
    clamped: Counter[str] = Counter()
    try:
        with atomic_write(file, overwrite=overwrite) as unfinished:
            for offset, piece in pieces_of(layout, clamped, progress):
                unfinished.seek(offset)
                unfinished.write(piece)
            _check_unchanged(sources, before)
    except FileExistsError as error:
        packed = _already_there(file, layout, progress)
        if packed:
            return packed
        written = time.strftime("%X", time.localtime(file.stat().st_mtime))
        raise FileExistsError(
            f"Another program was first: it wrote {file.name} into {file.parent} at {written}, "
            f"while {folder.name} was being packed. Its file was left as it is. Choose another "
            "name, or allow it to be overwritten."
        ) from error
    return Packed(file, layout.size, True, clamped, removed)


def _already_there(file: Path, layout: FileLayout, progress: Progress) -> Packed | None:
    """The result if `file` is equal to the last byte already, None if it is another file."""
    clamped: Counter[str] = Counter()
    if not is_equal(file, pieces_of(layout, clamped, progress), layout.size):
        return None
    return Packed(file, layout.size, False, clamped)


def _states(files: Iterable[Path]) -> list[tuple[int, int, int]]:
    """What changes when a file is written to or replaced."""
    stats = [file.stat() for file in files]
    return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]


def _check_unchanged(files: Iterable[Path], before: Iterable[tuple[int, int, int]]) -> None:
    now = _states(files)
    changed = [
        file.name for file, *both in zip(files, before, now, strict=True) if both[0] != both[1]
    ]
    if changed:
        raise ValueError(
            f"{listed(changed)} changed while it was being packed, so nothing was written: parts "
            "of two models would be mixed. Wait until the download is complete, and pack again."
        )


def describe(packed: Packed) -> str:
    """The result in one or two sentences: name, size, and what fp8 clamped."""
    done = "was written" if packed.is_new else "was there already, the same to the last byte"
    text = f"{packed.file.name} ({in_words(packed.size)}) {done}."
    clamped = +packed.clamped
    if clamped:
        text += (
            f" {sum(clamped.values()):,} numbers of {listed(list(clamped))} were beyond fp8's "
            f"{torch.finfo(torch.float8_e4m3fn).max:.0f} and became that."
        )
    if packed.removed:
        text += f" An unfinished file of an earlier run was removed ({in_words(packed.removed)})."
    return text
