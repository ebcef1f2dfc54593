"""Packs a Hugging Face text-encoder folder into one safetensors file, tokenizer and config inside.

Tensors pass through memory in small pieces, each written at the offset that the header gives it.
Format: github.com/huggingface/safetensors, "Format".
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from ..files import listed
from .disk import atomic_write, check_space, check_target, in_words, is_equal
from .folders import find_encoder_files
from .layout import Progress, lay_out, pieces_of

DTYPES: dict[str, torch.dtype | None] = {
    "keep": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8_e4m3fn": torch.float8_e4m3fn,
}


@dataclass(frozen=True)
class Packed:
    """The result of `pack`. clamped: for each tensor, how many numbers were too large for fp8."""

    file: Path
    size: int  # bytes
    is_new: bool  # False if the same file existed already, equal in every byte
    clamped: Counter[str]


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
    an error leaves no partial file. Raises FileNotFoundError, FileExistsError, ValueError or
    OSError that name the file and what is wrong with it.
    """
    folder, file = Path(folder), Path(file)
    check_target(file, folder)
    layout = lay_out(find_encoder_files(folder), DTYPES[dtype], progress)
    clamped: Counter[str] = Counter()
    if file.exists():
        if is_equal(file, pieces_of(layout, clamped, progress), layout.size):
            return Packed(file, layout.size, False, clamped)
        if not overwrite:
            raise FileExistsError(
                f"{file.name} is in {file.parent} already, and it is not {folder.name} packed as "
                f"{dtype}. Choose another name, or allow it to be overwritten."
            )
        clamped.clear()
    check_space(file.parent, layout.size)
    with atomic_write(file) as unfinished:
        for offset, piece in pieces_of(layout, clamped, progress):
            unfinished.seek(offset)
            unfinished.write(piece)
    return Packed(file, layout.size, True, clamped)


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
    return text
