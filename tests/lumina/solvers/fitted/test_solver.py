"""The fitted solver: its step, what it hands to callbacks, parts of a run, what it refuses."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.solvers import SOLVERS
from lumina_next.lumina.solvers.fitted import FittedSolver
from lumina_next.tests.support.fitted_files import SOLVER
from lumina_next.tests.support.flows import denoised

NOISE = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
SIGMAS = torch.tensor(SOLVER.sigmas)


def test_weights_of_1_are_euler():
    euler = FittedSolver(SOLVER.sigmas, ((1.0,),) * 4)
    expected = SOLVERS["euler"](denoised, NOISE, SIGMAS, disable=True)
    assert_close(euler(denoised, NOISE, SIGMAS, disable=True), expected)


def test_step_is_the_weighted_sum_of_the_last_slopes():
    x, slopes = NOISE, []
    for step, row in enumerate(SOLVER.weights):
        sigma, end = SOLVER.sigmas[step : step + 2]
        slopes.append((x - denoised(x, torch.full((3,), sigma))) / sigma)
        used = zip(row, slopes[-len(row) :], strict=True)
        x = x + (end - sigma) * sum(weight * slope for weight, slope in used)
    assert_close(SOLVER(denoised, NOISE, SIGMAS, disable=True), x)


def test_model_is_called_once_a_step_and_callback_hears_of_each():
    asked, told = [], []

    def model(x, sigma, **extra_args):
        asked.append((sigma.tolist(), extra_args))
        return denoised(x, sigma)

    SOLVER(model, NOISE, SIGMAS, {"seed": 5}, told.append, disable=True)
    assert_close([sigmas for sigmas, _ in asked], [[s] * 3 for s in SOLVER.sigmas[:-1]])
    assert all(extra_args == {"seed": 5} for _, extra_args in asked)
    assert [step["i"] for step in told] == [0, 1, 2, 3]
    for step, sigma in zip(told, SIGMAS, strict=False):
        assert step["sigma"] == step["sigma_hat"] == sigma
        assert_close(step["denoised"], denoised(step["x"], sigma.repeat(3)))


def test_masked_pixels_come_out_as_they_were():
    picture, noise = torch.full_like(NOISE, 0.75), NOISE
    mask = torch.zeros_like(NOISE)
    mask[..., :2] = 1

    def masked(x, sigma):
        """As hosts do it: outside the mask the picture, with the noise of this sigma, is put in."""
        level = sigma.reshape(-1, 1, 1, 1)
        given = (1 - level) * picture + level * noise
        return denoised(torch.where(mask > 0, x, given), sigma) * mask + picture * (1 - mask)

    drawn = SOLVER(masked, noise, SIGMAS, disable=True)
    assert_close(drawn[..., 2:], picture[..., 2:], atol=2e-6, rtol=0)
    assert (drawn[..., :2] - picture[..., :2]).abs().mean() > 0.1


def test_run_of_half_precision_ends_in_it_but_is_computed_in_single():
    half = SOLVER(denoised, NOISE.half(), SIGMAS, disable=True)
    assert half.dtype == torch.float16
    assert torch.equal(half, SOLVER(denoised, NOISE.half().float(), SIGMAS, disable=True).half())


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_two_parts_of_a_run_go_the_same_levels(cut):
    asked = []

    def model(x, sigma):
        asked.append(round(float(sigma[0]), 6))
        return denoised(x, sigma)

    halfway = SOLVER(model, NOISE, SIGMAS[: cut + 1], disable=True)
    SOLVER(model, halfway, SIGMAS[cut:], disable=True)
    assert asked == list(SOLVER.sigmas[:-1])


def test_step_without_the_slopes_it_needs_is_eulers():
    x = SOLVER(denoised, NOISE, SIGMAS[2:4], disable=True)
    assert_close(x, SOLVERS["euler"](denoised, NOISE, SIGMAS[2:4], disable=True))


@pytest.mark.parametrize(
    "denoise, steps", [(1.0, 4), (0.95, 4), (0.75, 3), (0.4, 2), (0.1, 1), (0.04, 0), (0.0, 0)]
)
def test_denoise_starts_at_the_nearest_level(denoise, steps):
    tail = SOLVER.tail(denoise)
    assert_close(tail, SIGMAS[4 - steps :] if steps else torch.zeros(0))
    assert SOLVER(denoised, NOISE, tail, disable=True).shape == NOISE.shape


def test_no_steps_change_nothing():
    assert torch.equal(SOLVER(denoised, NOISE, torch.zeros(0)), NOISE)


@pytest.mark.parametrize(
    "sigmas", [[1, 0.5, 0], [1, 0.7, 0.4, 0.1, 0.05, 0], [0.7, 0.1], [1, 0.7, 0.4, 0.2, 0]]
)
def test_other_noise_levels_are_refused(sigmas):
    with pytest.raises(
        ValueError, match="has 5 noise levels of its own, 1, 0.7.*Connect the SIGMA"
    ):
        SOLVER(denoised, NOISE, torch.tensor(sigmas), disable=True)


def test_levels_rounded_to_half_precision_are_its_own():
    SOLVER(denoised, NOISE, SIGMAS.half().float(), disable=True)


@pytest.mark.parametrize(
    "sigmas, weights, said",
    [
        ((1.0,), (), "1 noise levels"),
        ((1.0, 0.5), ((1.0,),), "do not fall from 1 to 0"),
        ((1.0, 0.5, 0.5, 0.0), ((1.0,),) * 3, "do not fall from 1 to 0"),
        ((1.0, float("nan"), 0.0), ((1.0,),) * 2, "do not fall from 1 to 0"),
        ((1.0, 0.5, 0.0), ((1.0,),), "2 steps need as many rows of weights, not 1"),
        ((1.0, 0.5, 0.0), ((1.0,), (0.5, 0.2, 0.3)), "3 weights in step 2"),
        ((1.0, 0.5, 0.0), ((1.0,), ()), "0 weights in step 2"),
        ((1.0, 0.5, 0.0), ((1.0,), (0.5, 0.2)), "sum to 0.7, not to 1"),
        ((1.0, 0.5, 0.0), ((1.0,), (-1e9, 1e9 + 1)), "not from -100 to 100"),
        ((1.0, 0.5, 0.0), ((1.0,), (float("nan"), 1.0)), "not from -100 to 100"),
    ],
)
def test_numbers_that_are_no_solver_are_refused(sigmas, weights, said):
    with pytest.raises(ValueError, match=said):
        FittedSolver(sigmas, weights)
