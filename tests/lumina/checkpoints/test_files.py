"""What is found, read and refused on disk."""

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
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import files
from lumina_next.lumina.checkpoints.broken_files import explain_unreadable

WEIGHTS = {"layers.0.w": torch.arange(6.0).view(2, 3), "layers.1.w": torch.ones(4)}
LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 6509545600\n"
)


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(WEIGHTS, path)
    return path


@pytest.fixture
def sharded(tmp_path):
    """A folder as diffusers saves a large model."""
    folder = tmp_path / "pipeline" / "transformer"
    folder.mkdir(parents=True)
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name, (key, tensor) in zip(names, WEIGHTS.items(), strict=True):
        save_file({key: tensor}, folder / name)
    index = {"weight_map": dict(zip(WEIGHTS, names, strict=True))}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"x")


def names(paths):
    return [path.name for path in paths]


# --- which files make up a model


@pytest.mark.parametrize("choice", ["*.json", "*-00001-*", "*-00002-*"])
def test_all_shards_are_found_from_any_of_them(sharded, choice):
    expected = sorted(sharded.glob("*.safetensors"))
    assert files.shard_paths(next(sharded.glob(choice))) == expected
    assert files.shard_paths(sharded) == files.shard_paths(sharded.parent) == expected


def test_shards_are_found_without_their_index(sharded):
    next(sharded.glob("*.json")).unlink()
    assert files.shard_paths(sharded) == sorted(sharded.glob("*.safetensors"))


@pytest.mark.parametrize("choice", [".", "*.json", "*-00001-*"])
def test_missing_shard_is_named(sharded, choice):
    lost = next(sharded.glob("*-00002-*"))
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=rf"folder transformer lacks {lost.name}\."):
        files.shard_paths(sharded if choice == "." else next(sharded.glob(choice)))


def test_missing_model_parallel_part_is_named(tmp_path):
    touch(tmp_path, "consolidated.00-of-02.pth")
    with pytest.raises(FileNotFoundError, match=r"consolidated\.01-of-02\.pth"):
        files.shard_paths(tmp_path / "consolidated.00-of-02.pth")
    touch(tmp_path, "consolidated.01-of-02.pth")
    found = files.shard_paths(tmp_path / "consolidated.01-of-02.pth")
    assert names(found) == ["consolidated.00-of-02.pth", "consolidated.01-of-02.pth"]


def test_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lumina\.safetensors does not exist"):
        files.shard_paths(tmp_path / "lumina.safetensors")


@pytest.mark.parametrize(
    "present, chosen",
    [
        (["consolidated.00-of-01.safetensors", "model_args.pth"], 0),
        (["consolidated.00-of-01.pth", "consolidated_ema.00-of-01.pth", "model_args.pth"], 1),
        (["consolidated.00-of-01.pth", "consolidated.00-of-01.safetensors"], 1),
        (["consolidated.00-of-01.pth", "optimizer.00-of-01.pth", "config.json"], 0),
        (["Model.SFT", "readme.md"], 0),
    ],
)
def test_the_model_in_a_folder_is_found(tmp_path, present, chosen):
    touch(tmp_path, *present)
    assert names(files.shard_paths(tmp_path)) == [present[chosen]]


def test_models_in_an_ambiguous_folder_are_listed(tmp_path):
    touch(tmp_path, "a.safetensors", "b.safetensors")
    with pytest.raises(ValueError, match=r"2 models.*a\.safetensors, b\.safetensors"):
        files.shard_paths(tmp_path)


def test_folder_without_a_model_says_so(tmp_path):
    touch(tmp_path, "model_args.pth", "readme.md")
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path.name} holds no model"):
        files.shard_paths(tmp_path)


def test_text_encoder_folder_of_a_pipeline_can_be_asked_for(tmp_path):
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "transformer").mkdir()
    touch(tmp_path / "text_encoder", "model.safetensors")
    found = files.shard_paths(tmp_path, subfolder="text_encoder")
    assert found == [tmp_path / "text_encoder" / "model.safetensors"]


def test_both_formats_of_a_hugging_face_model_are_one(tmp_path):
    touch(tmp_path, "pytorch_model.bin", "model.safetensors")
    assert names(files.shard_paths(tmp_path)) == ["model.safetensors"]


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..\\secret.pth", ".."])
def test_index_that_points_outside_its_folder_is_refused(tmp_path, name):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(ValueError, match="must name files beside it"):
        files.shard_paths(index)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"w": 1}}'])
def test_damaged_index_is_named(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        files.shard_paths(index)


# --- what is wrong with a file


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


# --- reading


@pytest.mark.parametrize("form", ["safetensors", "zip", "old", "wrapped"])
def test_every_format_is_read_exactly(tmp_path, form):
    path = tmp_path / ("m.safetensors" if form == "safetensors" else "m.pth")
    if form == "safetensors":
        save_file(WEIGHTS, path)
    else:
        content = {"step": 3, "model": {"state_dict": WEIGHTS}} if form == "wrapped" else WEIGHTS
        torch.save(content, path, _use_new_zipfile_serialization=form != "old")
    assert explain_unreadable(path) is None
    assert_close(files.read_file(path), WEIGHTS, rtol=0, atol=0)


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


@pytest.mark.parametrize(
    "content, said",
    [
        ({"state": {}, "param_groups": []}, "optimizer"),
        ({"w": torch.ones(1), "epoch": 3}, '"epoch" is a int'),
        ([torch.ones(1)], "holds a list"),
        ({}, "holds nothing"),
    ],
)
def test_what_is_not_weights_is_named(tmp_path, content, said):
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=rf"^m\.pth.*{said}"):
        files.read_file(tmp_path / "m.pth")
