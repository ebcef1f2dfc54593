"""What is wrong with a file is said before it is read, and nothing in it runs."""

import argparse
import json
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lumina_next.lumina.checkpoints import files
from lumina_next.lumina.checkpoints.files import explain_unreadable
from lumina_next.tests.support.next_dits import WEIGHTS

LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 6509545600\n"
)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is empty"),
        (LFS_POINTER, "Git LFS pointer.*6,509,545,600 bytes"),
        (b"<!DOCTYPE html><html><head>", "is a web page"),
        (b"\n <html lang='en'>", "is a web page"),
        (b'{"error": "Access to model is restricted"}', "text file.*Access to model"),
        ("Modèle introuvable".encode(), "text file.*Modèle"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (bytes(4096), "not a safetensors file"),
        (b"\x80\x02}q\x00.", "torch file under a safetensors name"),
    ],
)
def test_what_was_downloaded_instead_of_safetensors_is_said(tmp_path, content, said):
    path = tmp_path / "lumina.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)^lumina\.safetensors.*{said}"):
        files.read_file(path)


def test_a_header_as_long_as_a_torch_file_begins_is_no_torch_file(tmp_path):
    path, length = tmp_path / "model.safetensors", 0x80
    path.write_bytes(length.to_bytes(8, "little") + b"{}".ljust(length))
    assert explain_unreadable(path) is None


@pytest.mark.parametrize(
    "content, said",
    [
        (bytes(4096), "not a torch file"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "safetensors file under another name"),
        (b"PK\x03\x04" + bytes(4096), "cut short"),
        (b"\x80\x02\xff\xff", "cannot be read as plain weights"),
    ],
)
def test_what_was_downloaded_instead_of_a_torch_file_is_said(tmp_path, content, said):
    path = tmp_path / "lumina.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^lumina\.pth.*{said}"):
        files.read_file(path)


def test_unknown_extension_is_said(tmp_path):
    path = tmp_path / "lumina.npz"
    path.write_bytes(bytes(100))
    assert "not a weights file" in explain_unreadable(path)
    assert "does not exist" in explain_unreadable(tmp_path / "gone.safetensors")


def test_cut_safetensors_says_how_much_is_there(model_file):
    whole = model_file.read_bytes()
    model_file.write_bytes(whole[:-7])
    said = f"model.safetensors is cut short: {len(whole) - 7:,} of {len(whole):,} bytes"
    assert explain_unreadable(model_file).startswith(said)
    model_file.write_bytes(whole + b"abc")
    assert "3 bytes more than it should have" in explain_unreadable(model_file)


def test_damaged_header_is_said(model_file):
    content = bytearray(model_file.read_bytes())
    content[9] = 0xFF
    model_file.write_bytes(content)
    assert "damaged header" in explain_unreadable(model_file)


@pytest.mark.parametrize(
    ("dtype", "shape"), [("F32", [3]), ("F32", [-1]), ("F99", [1]), ("F32", "1")]
)
def test_header_that_does_not_agree_with_itself_is_explained(tmp_path, dtype, shape):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, 4]}
    header = json.dumps({"a": entry}).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert explain_unreadable(path).startswith("odd.safetensors has a damaged header: ")


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' * 100_000,
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4.0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        b'{"a": {"data_offsets": [0, 4]}, "b": {"data_offsets": ["x", "y"]}}',
        b'{"__metadata__": {"x": 3}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"\xff": 1}',
    ],
    ids=range(8),
)
def test_header_of_wrong_types_is_explained(tmp_path, header):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert explain_unreadable(path).startswith("odd.safetensors has a damaged header")


def test_what_is_no_file_is_said(tmp_path):
    (tmp_path / "a.pth").mkdir()
    (tmp_path / "b.pth").symlink_to("b.pth")
    for name in ("a.pth", "b.pth", "n" * 300 + ".pth"):
        assert explain_unreadable(tmp_path / name).startswith(f"{name} does not exist")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_every_cut_is_noticed_before_reading(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    save_file(WEIGHTS, path) if suffix == ".safetensors" else torch.save(WEIGHTS, path)
    whole = path.read_bytes()

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, len(whole) - 1))
    def is_explained(length):
        path.write_bytes(whole[:length])
        assert explain_unreadable(path)

    is_explained()


class Evil:
    """Creates a file when it is unpickled, through the function it is given."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def evil_pickle(form, witness, path):
    if form == "torch":  # a function of torch itself is no safer
        torch.save({"w": Evil(torch.save, 1, str(witness))}, path)
    elif form == "plain pickle":
        path.write_bytes(pickle.dumps(Evil(os.mkdir, str(witness))))
    else:
        old = form == "old"
        content = {"w": Evil(os.mkdir, str(witness))}
        torch.save(content, path, _use_new_zipfile_serialization=not old)


@pytest.mark.parametrize("form", ["zip", "old", "plain pickle", "torch"])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path, form):
    witness, path = tmp_path / "witness", tmp_path / "evil.pth"
    evil_pickle(form, witness, path)
    with pytest.raises(ValueError, match=r"^evil\.pth.*code when"):
        files.read_file(path)
    assert not witness.exists()
    if form == "plain pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert witness.exists()  # the file is dangerous indeed to whoever unpickles it


def test_settings_file_is_named_as_such(tmp_path):
    path = tmp_path / "model_args.pth"
    torch.save(argparse.Namespace(model="NextDiT_2B_GQA_patch2", qk_norm=True), path)
    with pytest.raises(ValueError, match=r"model_args\.pth holds the settings.*consolidated"):
        files.read_file(path)


def test_zip_archive_of_something_else_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        archive.writestr("consolidated.00-of-01.pth", b"...")
    assert "Unpack it" in explain_unreadable(tmp_path / "m.pth")
