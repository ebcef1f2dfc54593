"""Explains why a weights file cannot be read, before anything tries to load it.

Reads headers only, whatever the file's size, and runs nothing from it. Formats: safetensors
(github.com/huggingface/safetensors, "Format") and torch.save's zip archives and plain pickles.
"""

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import safetensors

LONGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors library
SAFETENSORS = (".safetensors", ".sft")
PICKLED = (".pth", ".pt", ".ckpt", ".bin")

_SETTINGS = {"argparse.Namespace", "types.SimpleNamespace"}
# Objects that weights files import. Only for the message: torch's own list decides what is read.
_HARMLESS = re.compile(r"(torch|collections|_codecs|numpy)\.|(__builtin__|builtins)\.set$")
_PICKLES_IN_OLD_FILE = 4  # magic number, version, machine, data


def explain_unreadable(path: str | Path) -> str | None:
    """What is wrong with one weights file on disk, as a sentence that names it; None if nothing."""
    path = Path(path)
    if not path.is_file():
        return f"{path.name} does not exist in {path.parent}"
    size, suffix = path.stat().st_size, path.suffix.lower()
    with path.open("rb") as file:
        head = file.read(512)
        problem = _foreign_content(head, size)
        if problem is None and suffix in SAFETENSORS:
            problem = _broken_safetensors(path, file, head, size)
        elif problem is None and suffix in PICKLED:
            problem = _broken_pickle(file, head)
        elif problem is None:
            problem = f"is not a weights file ({', '.join(SAFETENSORS + PICKLED)})."
    return problem and f"{path.name} {problem}"


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
        return "is a GGUF file, which is not supported here. Use a .safetensors file."
    if _is_text(head):
        start = head.decode("utf-8", "ignore").strip().splitlines()[0][:60]
        return f'is a text file, not a model. It begins with "{start}".'
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
    if length > LONGEST_HEADER:
        return "has a damaged header. Download it again."
    file.seek(8)
    try:
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError):
        return "has a damaged header. Download it again."
    expected = 8 + length + max(ends, default=0)
    if size < expected:
        return f"is cut short: {size:,} of {expected:,} bytes. Download it again."
    if size > expected:
        return f"is damaged: {size - expected:,} bytes more than it should have. Download it again."
    try:
        with safetensors.safe_open(path, framework="pt"):
            return None  # the library has checked that dtypes, shapes and offsets agree
    except safetensors.SafetensorError as error:
        return f"has a damaged header: {error}. Download it again."


def _broken_pickle(file: BinaryIO, head: bytes) -> str | None:
    if head[8:9] == b"{":
        return "is a safetensors file under another name. Rename it to end in .safetensors."
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        if not zipfile.is_zipfile(file):  # the table of contents is at the end
            return "is cut short: its end is missing. Download it again."
        return _suspicious_archive(file)
    if not head.startswith(b"\x80"):
        return "is not a torch file, or its beginning is damaged. Download it again."
    return _suspicious(_named_objects(file, _PICKLES_IN_OLD_FILE))


def _suspicious_archive(file: BinaryIO) -> str | None:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
        if not pickles:
            return "is a zip archive, not weights. Unpack it and choose the model inside."
        with archive.open(pickles[0]) as pickled:
            return _suspicious(_named_objects(pickled, 1))


def _suspicious(names: Iterator[str]) -> str | None:
    for name in names:
        if name in _SETTINGS:
            return (
                "holds the settings of a training run, not weights. Choose consolidated.* or "
                "consolidated_ema.* from the same folder."
            )
        if not _HARMLESS.match(name):
            return (
                f"asks to run code when it is opened ({name}) and was refused; nothing in it ran. "
                "Use a .safetensors file of the model."
            )
    return None


def _named_objects(file: IO[bytes], pickles: int) -> Iterator[str]:
    """Dotted names of the Python objects that the first `pickles` of a file would import."""
    strings: list[str] = []
    try:
        for _ in range(pickles):
            for opcode, argument, _position in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    yield str(argument).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":  # takes the last two strings on the stack
                    yield ".".join(strings[-2:])
                elif isinstance(argument, str):
                    strings.append(argument)
    except ValueError:
        return  # cut short or no pickle: torch.load will raise
