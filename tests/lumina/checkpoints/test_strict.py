"""A network gets exactly its weights."""

import dataclasses

import pytest
import torch

from lumina_next.lumina.checkpoints import architecture
from lumina_next.tests.support.next_dits import TINY, native_weights


@pytest.mark.parametrize("lost", ["layers.1.ffn_norm2.weight", "layers.0.attention.gate"])
def test_missing_weight_is_named(weights, lost):
    del weights[lost]
    with pytest.raises(
        ValueError, match=rf'^cut\.pth is incomplete: .*"{lost}".*download it again'
    ):
        architecture.checked_config(weights, "cut.pth")


def test_missing_weights_are_counted(weights):
    whole = len(weights)
    partial = {key: tensor for key, tensor in weights.items() if "layers.1.feed" not in key}
    with pytest.raises(ValueError, match=rf"3 of {whole} weights are missing"):
        architecture.checked_config(partial)


def test_layer_missing_in_the_middle_is_noticed():
    weights = native_weights(dataclasses.replace(TINY, layers=3))
    weights = {key: tensor for key, tensor in weights.items() if "layers.1." not in key}
    with pytest.raises(ValueError, match=r'"layers\.1\.adaLN_modulation\.1\.bias"'):
        architecture.checked_config(weights)


def test_unknown_weight_is_named(weights):
    weights["layers.0.attention.extra.weight"] = torch.ones(3)
    with pytest.raises(ValueError, match=r'1 weight .*"layers\.0\.attention\.extra\.weight"'):
        architecture.checked_config(weights)


def test_weight_of_another_shape_is_named_with_both(weights):
    weights["layers.1.attention_norm1.weight"] = torch.ones(33)
    with pytest.raises(ValueError, match=r'"layers\.1\.attention_norm1\.weight" is 33 .* 32'):
        architecture.checked_config(weights)


def test_scale_of_an_unknown_module_is_named(weights):
    weights["layers.0.attention.extra.weight_scale"] = torch.ones(1)
    with pytest.raises(ValueError, match=r"extra\.weight_scale"):
        architecture.checked_config(weights)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8, torch.bool])
@pytest.mark.parametrize("key", ["layers.0.attention.wq.weight", "layers.1.ffn_norm1.weight"])
def test_whole_numbers_where_fractions_belong_are_refused(weights, dtype, key):
    weights[key] = weights[key].to(dtype)
    with pytest.raises(ValueError, match=rf'^m\.pth holds {dtype} in "{key}"'):
        architecture.checked_config(weights, "m.pth")


def test_whole_numbers_with_their_scale_are_a_quantized_weight(weights):
    weights["layers.0.attention.wq.weight"] = weights["layers.0.attention.wq.weight"].to(torch.int8)
    weights["layers.0.attention.wq.weight_scale"] = torch.ones(1)
    assert architecture.checked_config(weights) == TINY


@pytest.mark.parametrize("shape", [(), (0,), (32, 0), (0, 16), (2**30, 0), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("key", ["x_embedder.weight", "layers.0.attention.gate", "x_embedder.bias"])
def test_sizes_that_no_model_has_are_refused(weights, key, shape):
    weights[key] = torch.empty(shape)
    with pytest.raises(
        ValueError, match=r"^m\.pth (does not fit together: |is not a Next-DiT|reads)"
    ):
        architecture.checked_config(weights, "m.pth")


def test_names_that_are_codes_or_markup_are_escaped(weights):
    weights["\x1b[31m<b>" + "x" * 10_000] = torch.ones(1)
    with pytest.raises(ValueError, match=r'"\\x1b\[31m\\x3cb\\x3exxx') as caught:
        architecture.checked_config(weights)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
