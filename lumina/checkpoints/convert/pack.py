"""A Hugging Face text-encoder folder as one safetensors file, its tokenizer and config inside.

Every tensor passes through memory in small pieces, each written where the header has promised it.
Format: github.com/huggingface/safetensors, "Format".
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from ..files import listed
from .disk import check_space, check_target, holds, in_words, whole_file
from .folders import find_parts
from .layout import Progress, lay_out, pieces_of

DTYPES: dict[str, torch.dtype | None] = {
    "keep": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8_e4m3fn": torch.float8_e4m3fn,
}


@dataclass(frozen=True)
class Packed:
    """What came of it. `clamped`: how many numbers of which tensor were too large for fp8."""

    file: Path
    size: int  # bytes
    is_new: bool  # False where the file was there already, equal to the last byte
    clamped: Counter[str]


def pack(
    folder: str | Path,
    file: str | Path,
    dtype: str = "keep",
    *,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Packed:
    """Write the text encoder in `folder`, or in the diffusers pipeline there, to `file`.

    dtype: of `DTYPES`, for the tensors of two and more axes. progress(done, total) hears of every
    piece, in bytes; what it raises stops the work. The file comes to be whole or not at all, and
    one that is there and equal is left alone. Raises FileNotFoundError, FileExistsError,
    ValueError or OSError that say what is wrong with which file.
    """
    folder, file = Path(folder), Path(file)
    check_target(file, folder)
    layout = lay_out(find_parts(folder), DTYPES[dtype], progress)
    clamped: Counter[str] = Counter()
    if file.exists():
        if holds(file, pieces_of(layout, clamped, progress), layout.size):
            return Packed(file, layout.size, False, clamped)
        if not overwrite:
            raise FileExistsError(
                f"{file.name} is in {file.parent} already, and it is not {folder.name} packed as "
                f"{dtype}. Choose another name, or allow it to be overwritten."
            )
        clamped.clear()
    check_space(file.parent, layout.size)
    with whole_file(file) as unfinished:
        for offset, piece in pieces_of(layout, clamped, progress):
            unfinished.seek(offset)
            unfinished.write(piece)
    return Packed(file, layout.size, True, clamped)


def describe(packed: Packed) -> str:
    """What was done, in sentences."""
    done = "was written" if packed.is_new else "was there already, the same to the last byte"
    said = f"{packed.file.name} ({in_words(packed.size)}) {done}."
    beyond = +packed.clamped
    if beyond:
        said += (
            f" {sum(beyond.values()):,} numbers of {listed(list(beyond))} were beyond fp8's "
            f"{torch.finfo(torch.float8_e4m3fn).max:.0f} and became that."
        )
    return said
