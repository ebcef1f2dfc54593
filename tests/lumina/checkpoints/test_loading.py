"""Checkpoints as plain torch models, from every form of file."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import key_names, loading
from lumina_next.tests.support.next_dits import TINY, quantized


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
