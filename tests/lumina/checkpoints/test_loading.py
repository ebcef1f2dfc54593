"""Checkpoints as plain torch models, from every form of file."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import key_names, loading
from lumina_next.tests.support.next_dits import TINY, TINY_FLAG_DIT, native_weights, quantized


def test_plain_loading_refuses_what_torch_cannot_compute(weights):
    with pytest.raises(ValueError, match="is quantized"):
        loading.load_next_dit(quantized(weights))
    eight_bit = {key: tensor.to(torch.float8_e4m3fn) for key, tensor in weights.items()}
    with pytest.raises(ValueError, match=r"float8_e4m3fn.*pass the dtype"):
        loading.load_next_dit(eight_bit)
    model = loading.load_next_dit(eight_bit, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def save_sharded(folder, weights):
    keys = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": keys[::2]}
    halves["model-00002-of-00002.safetensors"] = keys[1::2]
    for name, part in halves.items():
        save_file({key: weights[key] for key in part}, folder / name)
    index = {"weight_map": {key: name for name, part in halves.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("choice", ["", "model.safetensors.index.json"])
def test_sharded_model_is_the_model_it_was_saved_from(tmp_path, weights, choice):
    save_sharded(tmp_path, weights)
    model = loading.load_next_dit(tmp_path / choice)
    assert model.config == TINY
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert_close(key_names.to_file_keys(model.state_dict()), weights, rtol=0, atol=0)


def test_released_pth_is_loaded(tmp_path, weights):
    torch.save({"pad_token": torch.ones(32), **weights}, tmp_path / "consolidated.00-of-01.pth")
    (tmp_path / "model_args.pth").write_bytes(b"not to be touched")
    model = loading.load_next_dit(tmp_path)
    assert_close(key_names.to_file_keys(model.state_dict()), weights, rtol=0, atol=0)


def test_loading_names_the_file(tmp_path, weights):
    del weights["layers.1.ffn_norm2.weight"]
    save_file(weights, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"^cut\.safetensors is incomplete"):
        loading.load_next_dit(tmp_path / "cut.safetensors")


def test_flag_dit_is_the_model_it_was_saved_from(tmp_path):
    weights = native_weights(TINY_FLAG_DIT)
    save_file({"pad_token": torch.ones(32), **weights}, tmp_path / "5b.safetensors")
    model = loading.load_flag_dit(tmp_path / "5b.safetensors")
    assert model.config == TINY_FLAG_DIT
    assert_close(key_names.to_file_keys(model.state_dict()), weights, rtol=0, atol=0)


def test_each_loader_names_the_other(weights):
    with pytest.raises(ValueError, match="is a Flag-DiT: load it with load_flag_dit"):
        loading.load_next_dit(native_weights(TINY_FLAG_DIT))
    with pytest.raises(ValueError, match="is a Next-DiT: load it with load_next_dit"):
        loading.load_flag_dit(weights)


def test_flag_dit_without_its_line_end_is_incomplete():
    weights = native_weights(TINY_FLAG_DIT)
    del weights["eol_token"]
    with pytest.raises(ValueError, match="is incomplete"):
        loading.load_flag_dit(weights)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_ranks_of_a_flag_dit_are_joined_unless_each_normalizes_for_itself(tmp_path, qk_norm):
    config = replace(TINY_FLAG_DIT, qk_norm=qk_norm)
    weights = native_weights(config)
    for rank, part in enumerate(split_between_two_ranks(weights)):
        save_file(part, tmp_path / f"consolidated.0{rank}-of-02.safetensors")
    if qk_norm:
        with pytest.raises(ValueError, match="only a checkpoint saved as 00-of-01 can be loaded"):
            loading.load_flag_dit(tmp_path)
    else:
        model = loading.load_flag_dit(tmp_path)
        assert_close(key_names.to_file_keys(model.state_dict()), weights, rtol=0, atol=0)


ROW_PARALLEL = ("wo.weight", "w2.weight", "t_embedder.mlp.2.weight")
REPLICATED = ("norm.weight", "cap_embedder.0.weight", "cap_embedder.0.bias", "mlp.2.bias")


def split_between_two_ranks(weights):
    """As fairscale's layers hold them: by columns, by rows, or whole on each rank."""
    parts = {}, {}
    for key, weight in weights.items():
        whole = key == "eol_token" or (key.endswith(REPLICATED) and ".attention." not in key)
        axis = 1 if key.endswith(ROW_PARALLEL) else 0
        pieces = (weight, weight) if whole else weight.chunk(2, dim=axis)
        for part, piece in zip(parts, pieces, strict=True):
            part[key] = piece.clone()
    return parts
