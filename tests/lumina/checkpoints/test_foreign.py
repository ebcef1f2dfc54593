"""Whatever goes wrong with a file becomes a sentence that names it."""

import json
import struct
import zipfile

import pytest
import torch
from safetensors import SafetensorError

from lumina_next.lumina.checkpoints.foreign import reading


def raised(error, *names):
    """What leaves the boundary when `error` is raised inside."""
    with pytest.raises(Exception) as caught, reading(*(names or ("te.pth",))):
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("HeaderTooLarge"),
        zipfile.BadZipFile("Bad magic number"),
        RuntimeError("encrypted\nC++ stack"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        json.JSONDecodeError("Expecting value", "x", 0),
        IndexError("list index out of range"),
        AssertionError(),
        KeyError("weight"),
        struct.error("unpack requires a buffer of 8 bytes"),
        RecursionError("maximum recursion depth exceeded"),
        TypeError("'<' not supported"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_error_becomes_one_that_names_the_file_and_says_what_to_do(error):
    found = raised(error)
    assert type(found) is ValueError and found.__cause__ is error
    assert str(found).startswith("te.pth cannot be read: ") and "Download it again" in str(found)
    assert type(error).__name__ in str(found) and "\n" not in str(found)


@pytest.mark.parametrize("kind", [OSError, PermissionError, FileNotFoundError])
def test_trouble_of_the_disk_is_said_as_such_without_the_path(kind):
    found = raised(kind(5, "Input/output error", "/somewhere/te.pth"))
    assert type(found) is ValueError
    assert str(found).startswith("te.pth cannot be read: Input/output error. Look whether")
    assert "/somewhere" not in str(found)


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError])
def test_sentence_that_names_a_file_passes_as_it_is(kind):
    error = kind("shard-2.pth is cut short.")
    assert raised(error, "model", "shard-1.pth", "shard-2.pth") is error


def test_sentence_without_the_file_gets_its_name():
    assert str(raised(ValueError("It is cut short."))) == "te.pth: It is cut short."


def test_codes_that_move_a_cursor_are_escaped():
    found = raised(ValueError('te.pth has "\x1b[2J".'))
    assert str(found) == 'te.pth has "\\x1b[2J".'


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("out of memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_not_the_files_fault_passes(error):
    with pytest.raises(type(error)) as caught, reading("te.pth"):
        raise error
    assert caught.value is error
