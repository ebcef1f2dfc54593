"""What is in a file of torch.save, and whether it is sound, before torch opens it.

Two forms: a zip archive with a pickle and one entry for each storage, and before torch 1.6 pickles
followed by the storages. Nothing in a pickle is run or imported here.
"""

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .. import limits
from ..wording import quoted
from .pickles import Description, Operations, describe

_SETTINGS = {"argparse.Namespace", "types.SimpleNamespace"}
# Objects that weights files import. Only for the message: what is read is decided in `pickles`.
_HARMLESS = re.compile(r"(torch|collections|_codecs|numpy)\.|(__builtin__|builtins)\.set$")
_PICKLES_BEFORE_DATA = 3  # in the old form: magic number, version, machine
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_COUNT_BYTES = 8  # in the old form: how many numbers there are, before those of each storage
_ADVICE = "Download it again, or use a .safetensors file of the model."
_IS_ENCRYPTED = 1  # in a zip entry's flags


def describe_torch_file(path: Path) -> object:
    """What torch.load would return, with tensors on device "meta". Costs a look at the pickle only.

    Raises ValueError that completes the sentence "<file> ...", for a file that is damaged, holds
    anything but weights, or asks to run code.
    """
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        return _describe_archive(file) if is_archive else _describe_old(file)


def _describe_archive(file: BinaryIO) -> object:
    if not zipfile.is_zipfile(file):  # the table of contents is at the end
        raise ValueError("is cut short: its end is missing. Download it again.")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            _check_entries(archive.infolist(), entries)
            # torch takes the folder of the first entry for that of all.
            folder = next(iter(entries), "").split("/")[0]
            if f"{folder}/data.pkl" not in entries:
                raise ValueError("is a zip archive, not weights. Unpack it and choose the model.")
            with archive.open(f"{folder}/data.pkl") as pickled:
                description = _description(io.BytesIO(pickled.read(limits.PICKLE_BYTES)))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"is damaged: {error}. {_ADVICE}") from error
    for storage in description.storages.values():
        entry = entries.get(f"{folder}/data/{storage.key}")
        if entry is None or entry.file_size != storage.size:
            size = "are missing" if entry is None else f"have {entry.file_size:,} bytes"
            raise ValueError(
                f"is damaged: the numbers of {quoted(storage.key)} {size}, where {storage.size:,} "
                f"bytes were expected. {_ADVICE}"
            )
    return description.value


def _check_entries(found: list[zipfile.ZipInfo], entries: dict[str, zipfile.ZipInfo]) -> None:
    if len(found) != len(entries):
        raise ValueError(f"is damaged: its archive holds two files of one name. {_ADVICE}")
    if any(entry.flag_bits & _IS_ENCRYPTED for entry in found):
        raise ValueError("is an encrypted archive. Unpack it with its password, or get another.")
    if any(e.compress_type != zipfile.ZIP_STORED or e.compress_size != e.file_size for e in found):
        raise ValueError(
            f"is a compressed archive, which torch would misread; it was packed again. {_ADVICE}"
        )


def _describe_old(file: BinaryIO) -> object:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    content = io.BytesIO(file.read(limits.PICKLE_BYTES))
    start = [_description(content).value for _ in range(_PICKLES_BEFORE_DATA)]
    if start[0] != _MAGIC_NUMBER:
        raise ValueError(f"is no file of torch.save. {_ADVICE}")
    description = _description(content)
    counted = len(description.storages) * _COUNT_BYTES
    expected = content.tell() + counted + sum(s.size for s in description.storages.values())
    if size < expected:
        raise ValueError(f"is cut short: {size:,} of {expected:,} bytes. Download it again.")
    keys = _description(content).value  # in the order in which their numbers follow
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(description.storages):
        raise ValueError(
            f"cannot be read as plain weights: its list of tensors is damaged. {_ADVICE}"
        )
    return description.value


def _description(content: BinaryIO) -> Description:
    """Of the next pickle in `content`."""
    operations: list[tuple[pickletools.OpcodeInfo, object, int | None]] = []
    damage = None
    try:
        for operation in pickletools.genops(content):
            if len(operations) == limits.PICKLE_STEPS:
                raise ValueError("it has more steps than any list of tensors")
            operations.append(operation)
    except (ValueError, IndexError, OverflowError) as error:
        damage = error
    _refuse_code(operations)
    try:
        if damage is not None:
            raise ValueError("its list of tensors is damaged or too long") from damage
        return describe(operations)
    except ValueError as error:
        raise ValueError(f"cannot be read as plain weights: {error}. {_ADVICE}") from error


def _refuse_code(operations: Operations) -> None:
    for name in _named_objects(operations):
        if name in _SETTINGS:
            raise ValueError(
                "holds the settings of a training run, not weights. Choose consolidated.* or "
                "consolidated_ema.* from the same folder."
            )
        if not _HARMLESS.match(name):
            raise ValueError(
                f"asks to run code when it is opened ({quoted(name)}) and was refused; nothing in "
                "it ran. Use a .safetensors file of the model."
            )


def _named_objects(operations: Operations) -> Iterator[str]:
    """Dotted names of the Python objects that a pickle would import."""
    strings: list[str] = []
    for opcode, argument, _ in operations:
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":  # takes the last two strings on the stack
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)
