"""Headers of weights files say what is in them, without its data."""

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

WEIGHT = torch.arange(6, dtype=torch.bfloat16).view(2, 3)
VOCABULARY = torch.arange(5, dtype=torch.uint8)


@pytest.fixture
def read_headers(host):
    """Called with the files of a model."""
    from lumina_next.host.checkpoints import folders, reading

    return lambda *files, **wanted: reading.read_headers(folders.Stored(files[0], files), **wanted)


@pytest.fixture
def saved(tmp_path):
    """saved(name, tensors, metadata) is the path of such a file."""

    def save(name, tensors, metadata=None):
        save_file(tensors, tmp_path / name, metadata)
        return tmp_path / name

    return save


def test_shapes_come_without_data(read_headers, saved):
    found, _ = read_headers(saved("a.safetensors", {"weight": WEIGHT, "other": VOCABULARY}))
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "weight": (2, 3),
        "other": (5,),
    }
    assert all(tensor.is_meta for tensor in found.values())


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float8_e5m2, torch.int64]
)
def test_dtypes_are_those_of_the_file(read_headers, saved, dtype):
    found, _ = read_headers(saved("a.safetensors", {"weight": WEIGHT.to(dtype), "x": VOCABULARY}))
    assert (found["weight"].dtype, found["x"].dtype) == (dtype, torch.uint8)


@pytest.mark.parametrize("name", ["spiece_model", "text_encoder.spiece_model"])
def test_data_comes_where_the_end_of_a_name_is_asked_for(read_headers, saved, name):
    file = saved("a.safetensors", {name: VOCABULARY, "spiece_model.weight": WEIGHT})
    found, _ = read_headers(file, with_data=["spiece_model"])
    assert_close(found[name], VOCABULARY)
    assert found["spiece_model.weight"].is_meta


def test_shards_are_read_as_one_model(read_headers, saved):
    one = saved("a.safetensors", {"x": WEIGHT}, {"config": "{}"})
    other = saved("b.safetensors", {"y": WEIGHT}, {"trained_size_px": "512"})
    found, metadata = read_headers(one, other)
    assert found.keys() == {"x", "y"}
    assert metadata == {"config": "{}", "trained_size_px": "512"}


def test_headers_do_not_tell_how_parts_of_a_tensor_are_joined(read_headers, saved):
    parts = [saved(name, {"x": WEIGHT}) for name in ("a.safetensors", "b.safetensors")]
    assert read_headers(*parts) is None


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".ckpt"])
def test_torch_files_are_described_too(read_headers, saved, tmp_path, suffix):
    torch.save({"y": WEIGHT}, tmp_path / f"b{suffix}")
    found, metadata = read_headers(saved("a.safetensors", {"x": WEIGHT}), tmp_path / f"b{suffix}")
    assert found.keys() == {"x", "y"} and metadata == {}
    assert found["y"].is_meta and found["y"].dtype == WEIGHT.dtype
    assert found["y"].shape == WEIGHT.shape


def test_data_in_a_torch_file_cannot_be_had_from_its_description(read_headers, tmp_path):
    torch.save({"spiece_model": VOCABULARY}, tmp_path / "b.pth")
    assert read_headers(tmp_path / "b.pth", with_data=["spiece_model"]) is None
