"""How far each wavelength is stretched, against the formulas of the methods."""

import math

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.rope.scaling import METHODS, Axis, Scaling
from lumina_next.lumina.rope.stretching import stretching, wavelengths_px

HEAD_DIM, TRAINED = 72, 64
INDEX = torch.arange(HEAD_DIM // 4)


def stretched(method, t=0.0, ratio=2.0):
    scaling = None if method is None else Scaling(method)
    return stretching(scaling, Axis(ratio, TRAINED, HEAD_DIM, t))


def test_wavelengths_are_those_of_the_formula():
    expected = 2 * math.pi * 10000 ** (4 * INDEX / HEAD_DIM) * 16
    assert_close(wavelengths_px(HEAD_DIM), expected)


@pytest.mark.parametrize("method, share", [(None, 0.0), ("linear", 1.0)])
def test_all_alike(method, share):
    assert_close(stretched(method), torch.full((HEAD_DIM // 4,), share))


@pytest.mark.parametrize("ratio", [1.5, 2.0, 4.0])
def test_ntk_stretches_by_the_exponent_of_its_base(ratio):
    assert_close(stretched("ntk", ratio=ratio), 4 * INDEX / HEAD_DIM, atol=1e-5, rtol=0)


def test_time_aware_goes_from_linear_to_ntk():
    assert_close(stretched("time_aware", 0.0)[1:], stretched("linear")[1:])
    assert_close(stretched("time_aware", 1.0), stretched("ntk"))


@pytest.mark.parametrize("method", ["linear", "frequency_aware", "yarn"])
def test_wavelengths_longer_than_the_trained_picture_follow_it(method):
    is_long = wavelengths_px(HEAD_DIM) > TRAINED * 16
    assert 0 < is_long.sum() < len(is_long)
    assert_close(stretched(method)[is_long], torch.ones(int(is_long.sum())), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_shortens_a_wavelength(method):
    assert all(stretched(method, t).min() > -1e-5 for t in (0.0, 0.5, 1.0))
