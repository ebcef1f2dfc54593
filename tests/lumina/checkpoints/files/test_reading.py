"""What is found, read and refused on disk."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import files, limits
from lumina_next.lumina.checkpoints.files import explain_unreadable
from lumina_next.tests.support.next_dits import WEIGHTS


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


@pytest.mark.parametrize(
    "number", ["00001-of-999999999", "00001-of-00000", "00000-of-00001", "00003-of-00002"]
)
def test_number_that_no_shard_has_is_refused_at_once(tmp_path, number):
    touch(tmp_path, f"model-{number}.safetensors")
    with pytest.raises(ValueError, match=rf"^model-{number}.safetensors in .* calls itself number"):
        files.shard_paths(tmp_path / f"model-{number}.safetensors")


def test_index_of_more_files_than_any_model_has_is_refused(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    weight_map = {f"w{i}": f"{i}.safetensors" for i in range(limits.SHARDS + 1)}
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match=r"index\.json in .* names 1,001 files"):
        files.shard_paths(index)


def test_name_longer_than_any_file_has_is_a_missing_file(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "n" * 300 + ".safetensors"}}))
    with pytest.raises(FileNotFoundError, match="lacks nnn"):
        files.shard_paths(index)


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


@pytest.mark.parametrize(
    "content, said",
    [
        ({"state": {}, "param_groups": []}, "optimizer"),
        ({"w": torch.ones(1), "epoch": 3}, '"epoch" is a int'),
        ([torch.ones(1)], "holds a list"),
        ({}, "holds nothing"),
        ({3: torch.ones(1)}, '"3" is a Tensor'),
        ({"\x1b[2J": 1}, r'"\\x1b\[2J" is a int'),
    ],
)
def test_what_is_not_weights_is_named(tmp_path, content, said):
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=rf"^m\.pth.*{said}"):
        files.read_file(tmp_path / "m.pth")
