"""RoPE methods against an independent float64 evaluation of the formulas, and their properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.lumina.rope import rotation
from lumina_next.lumina.rope.scaling import CHOICES, METHODS, Axis, Scaling, chosen_scaling

HEAD_DIMS = st.sampled_from([8, 32, 72, 128])
RATIOS = st.floats(1.01, 8.0)
TIMES = st.floats(0.0, 1.0)


def trained(head_dim, base=1e4):
    return base ** (-4 * np.arange(head_dim // 4) / head_dim)


def expected(method, d, s, t, tokens):
    """The formulas as published, in float64 logarithms so that no power overflows."""
    k = 4 * np.arange(d // 4) / d
    f = 1e4 ** (-k)
    if method == "linear":
        return f / s
    if method == "ntk":
        return (1e4 * s) ** (-k)
    if method == "watershed":
        return f / s if t < 0.3 else (1e4 * s) ** (-k)
    turning = (d - 1) * t + 1
    if method == "frequency_aware":
        turning = d * math.log(tokens / (2 * math.pi)) / math.log(1e4)
    return np.maximum(np.exp(-k * (math.log(1e4) + d / turning * math.log(s))), f / s)


@pytest.mark.parametrize("method", ["linear", "ntk", "frequency_aware", "time_aware", "watershed"])
@given(HEAD_DIMS, RATIOS, TIMES, st.integers(8, 128))
@settings(max_examples=40, deadline=None)
def test_method_is_its_formula(method, head_dim, ratio, t, tokens):
    found = Scaling(method).frequencies(Axis(ratio, tokens, head_dim, t))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected(method, head_dim, ratio, t, tokens), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@given(st.floats(0.1, 1.0), TIMES)
@settings(max_examples=10, deadline=None)
def test_nothing_changes_at_or_below_the_trained_size(method, ratio, t):
    found = Scaling(method).frequencies(Axis(ratio, 64, 72, t))
    assert torch.equal(found, rotation.frequencies(72))


@pytest.mark.parametrize("method", METHODS)
@given(HEAD_DIMS, RATIOS, TIMES)
@settings(max_examples=20, deadline=None)
def test_frequencies_never_exceed_the_trained_ones(method, head_dim, ratio, t):
    found = Scaling(method).frequencies(Axis(ratio, 64, head_dim, t))
    assert (found <= rotation.frequencies(head_dim) * (1 + 1e-6)).all() and (found > 0).all()


def test_time_aware_ends_as_ntk():
    axis = Axis(2.0, 64, 72, 1.0)
    torch.testing.assert_close(
        Scaling("time_aware").frequencies(axis), rotation.frequencies(72, ntk=2)
    )


def test_time_aware_starts_as_linear_but_for_the_finest_pair():
    found = Scaling("time_aware").frequencies(Axis(2.0, 64, 72, 0.0))
    torch.testing.assert_close(found[1:], rotation.frequencies(72, linear=2.0)[1:])
    assert found[0] == 1


def test_frequency_aware_reaches_linear_at_the_trained_length():
    axis = Axis(3.0, 64, 72, 0.5)
    found = Scaling("frequency_aware").frequencies(axis)
    longer = 2 * math.pi / rotation.frequencies(72) > 64
    torch.testing.assert_close(found[longer], rotation.frequencies(72, linear=3.0)[longer])
    assert (found[~longer] > rotation.frequencies(72, linear=3.0)[~longer]).all()


def test_dype_is_unscaled_at_the_end():
    for base in ("ntk", "yarn"):
        found = Scaling("dype", dype_base=base).frequencies(Axis(2.0, 64, 72, 1.0))
        torch.testing.assert_close(found, rotation.frequencies(72))


def test_dype_starts_with_the_ratio_to_its_scale():
    found = Scaling("dype", dype_scale=2.0).frequencies(Axis(3.0, 64, 72, 0.0))
    torch.testing.assert_close(found, rotation.frequencies(72, ntk=9.0))


def test_yarn_keeps_short_wavelengths_and_interpolates_long_ones():
    f = rotation.frequencies(72)
    found = Scaling("yarn").frequencies(Axis(2.0, 4096, 72, 0.5))
    turns = 4096 * f / (2 * math.pi)
    torch.testing.assert_close(found[turns >= 32], f[turns >= 32])
    torch.testing.assert_close(found[turns <= 1], f[turns <= 1] / 2)


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"method": "ntk2"}, 'unknown RoPE method "ntk2"'),
        ({"watershed": 1.5}, "watershed must be from 0 to 1, got 1.5"),
        ({"dype_base": "linear"}, "dype works on"),
        ({"dype_scale": -1.0}, "dype_scale must be from 0 to 8, got -1.0"),
    ],
)
def test_wrong_settings_are_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        Scaling(**wrong)


@pytest.mark.parametrize("name", METHODS)
def test_method_is_described(name):
    method = METHODS[name]
    assert method.formula and method.source and method.use.endswith(".")
    assert set(method.settings) <= Scaling.__dataclass_fields__.keys()


@pytest.mark.parametrize("name", METHODS)
def test_method_depends_on_time_where_it_says_so(name):
    early, late = (Scaling(name).frequencies(Axis(2.0, 64, 72, t)) for t in (0.1, 0.9))
    assert torch.equal(early, late) != METHODS[name].depends_on_time


def test_settings_are_chosen_by_the_names_they_have_within_their_method():
    found = chosen_scaling("dype", 64, {"scale": 1.5, "exponent": 1.0, "base": "yarn"})
    assert found == Scaling("dype", dype_scale=1.5, dype_exponent=1.0, dype_base="yarn")
    assert chosen_scaling("watershed", 64, {"watershed": 0.5}) == Scaling(
        "watershed", watershed=0.5
    )


@pytest.mark.parametrize(
    "tokens, method", [(8, "watershed"), (31, "watershed"), (32, "time_aware")]
)
def test_auto_depends_on_the_trained_size(tokens, method):
    assert chosen_scaling("auto", tokens, {}).method == method
    assert chosen_scaling("none", tokens, {}) is None
    assert CHOICES.keys() - METHODS.keys() == {"auto", "none"}
