"""Packs a Hugging Face text-encoder folder into one safetensors file, tokenizer and config inside.

Tensors pass through memory in small pieces, each written at the offset that the header gives it.
Format: github.com/huggingface/safetensors, "Format".
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from ..wording import listed
from .disk import check_target, in_words, remove_abandoned
from .folders import find_encoder_files
from .layout import Progress, lay_out, pieces_of
from .writing import Conversion, Pieces, SourceFiles

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
    sources, removed = SourceFiles([*files.weights, files.tokenizer]), remove_abandoned(file)
    layout = lay_out(files, DTYPES[dtype], progress)
    clamped: Counter[str] = Counter()

    def pieces() -> Pieces:
        clamped.clear()
        return pieces_of(layout, clamped, progress)

    result = f"{folder.name} packed as {dtype}"
    conversion = Conversion(file, layout.size, pieces, sources, result, "packed")
    is_new = conversion.write(overwrite=overwrite)
    return Packed(file, layout.size, is_new, clamped, removed if is_new else 0)


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
