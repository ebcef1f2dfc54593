"""The schedules against their formulas, and what every one of them promises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch.testing import assert_close

from lumina_next.lumina.schedules import LONGEST_COMPUTED, SCHEDULES, Schedule, truncate

NAMES = sorted(SCHEDULES)
steps = st.integers(1, 1000)


@st.composite
def schedules(draw):
    """A name and legal parameters, the ends of their ranges included."""
    name = draw(st.sampled_from(NAMES))
    ranges = SCHEDULES[name].parameters.items()
    return name, {key: draw(st.floats(item.low, item.high)) for key, item in ranges}


def undescribed(remaining):
    return Schedule(remaining, formula="", use="", source="")


def assert_sigmas(sigmas, steps):
    assert sigmas.shape == (steps + 1,) and sigmas.dtype == torch.float32
    assert bool((sigmas.diff() < 0).all())
    assert sigmas[-1] == 0


@given(schedules(), steps)
@settings(deadline=None)
def test_any_schedule_falls_strictly_from_1_to_0(schedule, steps):
    name, parameters = schedule
    sigmas = SCHEDULES[name](steps, **parameters)
    assert_sigmas(sigmas, steps)
    assert sigmas[0] == 1
    assert sigmas[-2] > torch.finfo(torch.float32).tiny  # one divides by it


@pytest.mark.parametrize("alpha, beta", [(50.0, 50.0), (0.1, 50.0), (50.0, 0.1)])
@pytest.mark.parametrize("mu", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("name", ["sigmoid", "sigmoid_map"])
def test_steps_too_short_for_float32_still_fall(name, mu, alpha, beta):
    sigmas = SCHEDULES[name](1000, mu=mu, alpha=alpha, beta=beta)
    assert_sigmas(sigmas, 1000)


def test_equal_neighbors_are_moved_by_the_least_possible():
    flat = undescribed(lambda done: torch.where(done < 0.9, 1.0, 1 - done))
    sigmas = flat(10)
    below_one = 2.0**-24  # the distance of float32 numbers just below 1
    assert sigmas[:9].tolist() == [1 - i * below_one for i in range(9)]


def test_ends_are_exact_whatever_the_formula_rounds_to():
    inexact = undescribed(lambda done: 0.9999999 - 0.9999998 * done)
    sigmas = inexact(4)
    assert sigmas[0] == 1 and sigmas[-1] == 0


@pytest.mark.parametrize("name", NAMES)
def test_one_step_goes_all_the_way(name):
    assert SCHEDULES[name](1).tolist() == [1, 0]


def test_uniform_steps_are_all_alike():
    assert_close(SCHEDULES["uniform"](7), torch.linspace(1, 0, 8))


@given(steps, st.floats(0.01, 100))
@settings(deadline=None)
def test_rational_is_the_shift_of_flow_models(steps, shift):
    """s * sigma / (1 + (s - 1) * sigma), which ComfyUI and diffusers apply to a uniform sigma."""
    sigma = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    expected = shift * sigma / (1 + (shift - 1) * sigma)
    assert_close(SCHEDULES["rational"](steps, shift=shift).double(), expected, rtol=0, atol=1e-6)


def test_rational_is_the_released_time_shift():
    """t / (t + s - s * t) on 30 points; the numbers are the released code's for s = 4."""
    t = 1 - SCHEDULES["rational"](29)
    assert_close(t[:4], torch.tensor([0, 0.00885, 0.01818, 0.02804]), rtol=0, atol=1e-5)
    assert_close(t[-3:], torch.tensor([0.7714, 0.875, 1]), rtol=0, atol=1e-4)


def logistic(x):
    return 1 / (1 + math.exp(-x))


@given(st.floats(0, 1), st.floats(0.1, 50), st.floats(0.1, 50), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_sigmoid_is_the_integral_of_its_profile(mu, alpha, beta, steps):
    def profile(u):
        return logistic(alpha * (u - mu)) if u < mu else logistic(-beta * (u - mu))

    def area(start, end):
        edges = [start, *[mu] * (start < mu < end), end]
        pieces = zip(edges[:-1], edges[1:], strict=True)
        return sum(quad(profile, a, b)[0] for a, b in pieces)

    expected = [area(i / steps, 1) / area(0, 1) for i in range(steps)] + [0]
    found = SCHEDULES["sigmoid"](steps, mu=mu, alpha=alpha, beta=beta)
    assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


@given(st.floats(0, 1), st.floats(0.1, 50), st.floats(0.1, 50), steps)
@settings(max_examples=40, deadline=None)
def test_sigmoid_map_is_the_normalized_logistic(mu, alpha, beta, steps):
    def g(u):
        return logistic((alpha if u < mu else beta) * (u - mu))

    t = [(g(i / steps) - g(0)) / (g(1) - g(0)) for i in range(steps + 1)]
    found = SCHEDULES["sigmoid_map"](steps, mu=mu, alpha=alpha, beta=beta)
    # Steps too short for float32 may add up to 1000 times 2**-24, the least they are made.
    assert_close(found.double(), 1 - torch.tensor(t).double(), rtol=0, atol=1e-4)


def test_sigmoid_of_the_paper_has_its_longest_step_at_mu():
    lengths = -SCHEDULES["sigmoid"](100).diff()
    assert 58 <= int(lengths.argmax()) <= 60
    assert bool((lengths[:58].diff() > 0).all() and (lengths[61:].diff() < 0).all())


@given(schedules(), st.integers(1, 100), st.floats(0.01, 1))
@settings(deadline=None)
def test_denoise_takes_the_last_steps_of_a_longer_run(schedule, steps, denoise):
    name, parameters = schedule
    sigmas = truncate(SCHEDULES[name], steps, denoise, **parameters)
    assert_sigmas(sigmas, steps)
    whole = SCHEDULES[name](int(steps / denoise), **parameters)
    assert_close(sigmas, whole[len(whole) - steps - 1 :], rtol=0, atol=0)


@pytest.mark.parametrize("steps, denoise", [(1, 9e-7), (10, 9e-6), (30, 1e-5), (1000, 5e-4)])
@pytest.mark.parametrize("name", NAMES)
def test_tail_of_a_very_long_run_is_that_of_the_whole(name, steps, denoise):
    total = int(steps / denoise)
    assert total > LONGEST_COMPUTED
    found = truncate(SCHEDULES[name], steps, denoise)
    assert torch.equal(found, SCHEDULES[name](total)[-(steps + 1) :])


@pytest.mark.parametrize("denoise", [1e-7, 1e-8])
@given(schedules())
@settings(deadline=None, max_examples=50)
def test_hardly_any_denoise_takes_hardly_any_memory(denoise, schedule):
    name, parameters = schedule
    sigmas = truncate(SCHEDULES[name], 10, denoise, **parameters)
    assert_sigmas(sigmas, 10)
    assert sigmas.untyped_storage().nbytes() < 1000
    assert 0 < sigmas[0] <= 200 * denoise  # times the steepest end: that of a shift of 100


@pytest.mark.parametrize("denoise", [1e-12, 1e-320])
def test_denoise_too_small_for_any_picture_is_0(denoise):
    assert truncate(SCHEDULES["uniform"], 10, denoise).shape == (0,)


def test_denoise_is_the_share_of_a_uniform_run():
    assert_close(truncate(SCHEDULES["uniform"], 5, 0.5), torch.linspace(0.5, 0, 6))


def test_denoise_0_is_no_step_at_all():
    assert truncate(SCHEDULES["uniform"], 5, 0.0).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_out_of_range_is_named(name):
    for key, item in SCHEDULES[name].parameters.items():
        for value in (item.low - 1e-6, item.high + 1e-6, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=rf"{key} must be from {item.low:g} to"):
                SCHEDULES[name](5, **{key: value})


def test_an_unknown_parameter_is_named():
    with pytest.raises(ValueError, match="shift is no parameter of this schedule; it has: mu"):
        SCHEDULES["sigmoid"](5, shift=4.0)


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_an_impossible_number_of_steps_is_named(steps):
    with pytest.raises(ValueError, match=f"steps must be a whole number from 1 up, got {steps}"):
        SCHEDULES["uniform"](steps)


@pytest.mark.parametrize("denoise", [-0.1, 1.1, float("nan")])
def test_an_impossible_denoise_is_named(denoise):
    with pytest.raises(ValueError, match="denoise must be from 0 to 1"):
        truncate(SCHEDULES["uniform"], 5, denoise)


@pytest.mark.parametrize("steps", [0, 1001, 2.5])
def test_steps_of_a_run_are_limited(steps):
    with pytest.raises(
        ValueError, match=f"steps must be a whole number from 1 to 1000, got {steps}"
    ):
        truncate(SCHEDULES["uniform"], steps, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_schedule_is_described(name):
    schedule = SCHEDULES[name]
    assert schedule.formula.startswith("t = ") and schedule.source
    assert schedule.use.endswith(".")
    for parameter, item in schedule.parameters.items():
        item.check(parameter, item.default)
        assert parameter in schedule.formula and item.meaning.endswith(".")
