"""JSON texts are read within limits."""

import os

import pytest

from lumina_next.lumina.checkpoints import limits
from lumina_next.lumina.checkpoints.json_files import json_object, read_json_object


def nested(depth):
    return '{"a":' * depth + "1" + "}" * depth


def test_an_object_is_read():
    assert json_object('{"a": [1, {"b": null}]}', "config.json") == {"a": [1, {"b": None}]}
    assert json_object(nested(limits.JSON_DEPTH), "config.json")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "3", "{", b"\xff\xfe{}", '{"a": ' + "9" * 5000 + "}", "[" * 100_000,
        '{"a":' * 100_000, nested(900), nested(limits.JSON_DEPTH + 1),
        '{"a":' + "[" * 70 + "]" * 70 + "}",
    ],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_object_is_said(text):
    with pytest.raises(ValueError, match="^config.json is damaged. Download it again.$"):
        json_object(text, "config.json")


def test_text_without_end_is_not_read(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(100 * limits.JSON_BYTES)  # takes no room on the disk
    with pytest.raises(ValueError, match="^config.json in x is larger than 16,777,216 bytes"):
        read_json_object(path, "config.json in x")


def test_what_cannot_be_opened_is_said(tmp_path):
    (tmp_path / "link.json").symlink_to("link.json")
    for name, reason in (("", "no file"), ("link.json", "symbolic links"), ("no", "No such")):
        with pytest.raises(ValueError, match=f"^config.json in x cannot be read: .*{reason}"):
            read_json_object(tmp_path / name, "config.json in x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes of a name")
def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ValueError, match="^config.json in x cannot be read: It is no file"):
        read_json_object(tmp_path / "config.json", "config.json in x")
