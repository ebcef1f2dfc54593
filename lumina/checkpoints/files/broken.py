"""Explains why a weights file cannot be read, before anything tries to load it.

Reads headers only, whatever the file's size, and runs nothing from it. Formats: safetensors
(github.com/huggingface/safetensors, "Format") and torch.save's zip archives and plain pickles.
"""

import json
import operator
import os
import re
from pathlib import Path
from typing import BinaryIO

import safetensors

from .. import limits
from ..foreign import reading
from ..wording import printable, quoted
from .torch_files import describe_torch_file

SAFETENSORS = (".safetensors", ".sft")
PICKLED = (".pth", ".pt", ".ckpt", ".bin")


def explain_unreadable(path: str | Path) -> str | None:
    """What is wrong with one weights file on disk, as a sentence that names it; None if nothing."""
    path = Path(path)
    if not os.path.isfile(path):
        return f"{path.name} does not exist in {path.parent}"
    try:
        with reading(path.name):
            problem = _explain(path)
            return problem and printable(f"{path.name} {problem}")
    except ValueError as error:
        return str(error)


def _explain(path: Path) -> str | None:
    """What is wrong with a file that exists; completes the sentence "<file> ..."."""
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        size, head = os.stat(file.fileno()).st_size, file.read(512)
        problem = _foreign_content(head, size)
        if problem is None and suffix in SAFETENSORS:
            problem = _broken_safetensors(path, file, head, size)
        elif problem is None and suffix in PICKLED:
            problem = _broken_pickle(path, head)
        elif problem is None:
            problem = f"is not a weights file ({', '.join(SAFETENSORS + PICKLED)})."
    return problem


def _foreign_content(head: bytes, size: int) -> str | None:
    """What was downloaded instead of a model, by the file's first bytes; None if not recognized."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "is empty (0 bytes). Download it again; the disk may have been full."
    if text.startswith(b"version https://git-lfs"):
        match = re.search(rb"\nsize (\d+)", head)
        of_size = f" of {int(match[1]):,} bytes" if match else ""
        return (
            f"is a Git LFS pointer: {size} bytes that stand for a file{of_size}. Run "
            '"git lfs pull" in its folder, or download the file itself.'
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return (
            "is a web page, not a model: the link led to a page. Some models must first be "
            "accepted on their page while logged in; then download the file itself."
        )
    if head.startswith(b"GGUF"):
        return (
            "is a GGUF file, which is not supported here. Use a .safetensors file; "
            '"Lumina-Next Quantize" makes one of 8 or 4 bits.'
        )
    if _is_text(head):
        start = head.decode("utf-8", "ignore").strip().splitlines()[0][:60]
        return f"is a text file, not a model. It begins with {quoted(start)}."
    return None


def _is_text(head: bytes) -> bool:
    decoded = head.decode("utf-8", "replace").rstrip("\ufffd")  # the last letter may be cut
    return bool(decoded.strip()) and all(c.isprintable() or c.isspace() for c in decoded)


def _broken_safetensors(path: Path, file: BinaryIO, head: bytes, size: int) -> str | None:
    """Checks the format: 8 bytes of header length, a JSON header, then the tensors' bytes only."""
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{":  # checked first: a header's length may equal a torch file's first bytes
        if head.startswith((b"PK\x03\x04", b"\x80")):
            return "is a torch file under a safetensors name. Rename it to end in .pth."
        return "is not a safetensors file, or its beginning is damaged. Download it again."
    if 8 + length > size:
        return f"is cut short: {size:,} bytes, less than its header alone. Download it again."
    if length > limits.HEADER_BYTES:
        return "has a damaged header. Download it again."
    file.seek(8)
    try:
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        expected = 8 + length + operator.index(max(ends, default=0))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return "has a damaged header. Download it again."
    if size < expected:
        return f"is cut short: {size:,} of {expected:,} bytes. Download it again."
    if size > expected:
        return f"is damaged: {size - expected:,} bytes more than it should have. Download it again."
    try:
        with safetensors.safe_open(path, framework="pt"):
            return None  # the library has checked that dtypes, shapes and offsets agree
    except safetensors.SafetensorError as error:
        return f"has a damaged header: {error}. Download it again."


def _broken_pickle(path: Path, head: bytes) -> str | None:
    if head[8:9] == b"{":
        return "is a safetensors file under another name. Rename it to end in .safetensors."
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        return "is not a torch file, or its beginning is damaged. Download it again."
    try:
        describe_torch_file(path)
    except ValueError as error:
        return str(error)
    return None
