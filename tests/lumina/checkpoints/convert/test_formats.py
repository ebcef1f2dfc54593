"""Each format gives a matrix back within what its bits allow, and its tensors as it said."""

import pytest
import torch

from lumina_next.lumina.checkpoints.convert.formats import FORMATS
from lumina_next.tests.support.quantized_tensors import dequantized

FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def random_matrix(rows, columns):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("name, most", [("fp8", 0.03), ("int8", 0.01), ("nvfp4", 0.11)])
@pytest.mark.parametrize("shape", [(16, 32), (128, 64), (400, 208)])
def test_matrix_comes_back_within_its_bits(name, most, shape):
    matrix = random_matrix(*shape)
    error = (dequantized(name, matrix) - matrix).norm() / matrix.norm()
    assert 0 < error < most


@pytest.mark.parametrize("name", FORMATS)
def test_scale_of_the_matrix_does_not_matter(name):
    matrix = random_matrix(160, 48)
    large = dequantized(name, 2**12 * matrix)
    assert torch.equal(large, 2**12 * dequantized(name, matrix))


@pytest.mark.parametrize("name", FORMATS)
def test_zeros_stay_zeros(name):
    matrix = random_matrix(144, 32)
    matrix[16:48] = 0
    assert not dequantized(name, matrix)[16:48].any()
    assert not dequantized(name, torch.zeros(16, 16)).any()


def test_four_bits_take_the_nearest_number_and_of_two_the_even_one():
    halfway = [(a + b) / 2 for a, b in zip(FP4, FP4[1:], strict=False)]
    expected = [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    row = torch.tensor([6.0, *halfway, -6.0, *FP4[1:]]).repeat(16, 1)
    found = dequantized("nvfp4", row)[0]
    assert found.tolist() == [6.0, *expected, -6.0, *FP4[1:]]


def test_each_row_has_a_scale_of_its_own_in_int8():
    matrix = random_matrix(4, 64) * torch.tensor([[1e-4], [1.0], [1e4], [1.0]])
    error = (dequantized("int8", matrix) - matrix).norm(dim=1) / matrix.norm(dim=1)
    assert error.max() < 0.02


@pytest.mark.parametrize("name", FORMATS)
def test_tensors_are_as_large_as_said(name):
    shape = (400, 208)
    said = FORMATS[name].tensors(shape)
    found = FORMATS[name].quantized(random_matrix(*shape))
    assert {key: tensor.nbytes for key, tensor in found.items()} == {
        key: info.size for key, info in said.items()
    }


def test_matrix_with_odd_sides_is_nothing_for_nvfp4():
    assert not FORMATS["nvfp4"].takes((24, 32)) and FORMATS["nvfp4"].takes((32, 32))
    assert FORMATS["fp8"].takes((5, 7)) and not FORMATS["fp8"].takes((5,))
