"""The comparison of quantized weights: what it quantizes and how it counts bits."""

import importlib

import pytest
import torch
from torch.testing import assert_close

from lumina_next.tests.support import next_dits


@pytest.fixture
def quantized():
    return importlib.import_module("benchmarks.quantized")


@pytest.fixture
def weights():
    return next_dits.native_weights()


def is_quantized(tensors, key):
    return f"{key.removesuffix('weight')}comfy_quant" in tensors


def test_kinds_quantize_what_the_converter_does(quantized, weights):
    kinds = quantized.KINDS
    kept, everything = (kinds[name](weights) for name in ("fp8", "fp8, all matrices"))
    modulation, matrix = "layers.0.adaLN_modulation.1.weight", "layers.0.attention.wq.weight"
    assert is_quantized(kept, matrix) and is_quantized(everything, matrix)
    assert is_quantized(everything, modulation) and not is_quantized(kept, modulation)
    assert not is_quantized(everything, "final_layer.adaLN_modulation.1.weight")


def test_cast_rounds_matrices_alone(quantized, weights):
    rounded = quantized.KINDS["fp8, cast"](weights)
    matrix, norm = "layers.0.attention.wq.weight", "layers.0.ffn_norm1.weight"
    assert_close(rounded[matrix], weights[matrix].to(torch.float8_e4m3fn).float())
    assert torch.equal(rounded[norm], weights[norm])


def test_sides_are_padded_for_nvfp4(quantized):
    chosen = quantized.FORMATS["nvfp4"]
    tensors = quantized.quantized(chosen, "a.", torch.randn(20, 24))
    assert tensors["a.weight"].shape == (32, 16)


@pytest.mark.parametrize("name, bits", [("bfloat16", 16), ("fp8, cast", 8)])
def test_bits_are_those_of_a_file(quantized, name, bits):
    weights = {"layers.0.attention.wq.weight": torch.randn(32, 32)}
    stored = quantized.stored(quantized.KINDS[name], weights)
    assert 8 * sum(tensor.nbytes for tensor in stored.values()) == bits * 32 * 32


def test_error_is_relative(quantized):
    assert quantized.far(torch.tensor([3.0, 0.0]), torch.tensor([2.0, 0.0])) == pytest.approx(0.5)
