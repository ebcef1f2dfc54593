"""The least squares of one step."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.solvers.fitting.weights import step_weights, trusted

SLOPES = list(torch.randn(3, 6, 2, 5, 5, generator=torch.Generator().manual_seed(0)))


def combined(weights):
    return sum(weight * slope for weight, slope in zip(weights, SLOPES, strict=True))


def test_weights_that_lead_there_exactly_are_found():
    wanted = (0.5, -1.25, 1.75)
    assert step_weights(SLOPES, combined(wanted)) == pytest.approx(wanted, abs=2e-3)


def test_weights_sum_to_1_whatever_is_wanted():
    found = step_weights(SLOPES, torch.randn(6, 2, 5, 5))
    assert sum(found) == pytest.approx(1, abs=1e-12)


def test_one_slope_is_eulers():
    assert step_weights(SLOPES[:1], torch.randn(6, 2, 5, 5)) == (1.0,)


def test_slopes_that_are_all_alike_are_eulers():
    found = step_weights([SLOPES[0]] * 3, SLOPES[1])
    assert_close(torch.tensor(found), torch.tensor([0.0, 0.0, 1.0]))


def test_picture_that_is_not_trusted_changes_nothing():
    wanted = (0.5, -1.25, 1.75)
    change = combined(wanted)
    change[2] = 100.0
    trust = torch.ones(6)
    trust[2] = 0
    assert step_weights(SLOPES, change, trust) == pytest.approx(wanted, abs=2e-3)
    assert step_weights(SLOPES, change) != pytest.approx(wanted, abs=0.1)


def test_pictures_far_from_their_own_are_trusted_less():
    trust = trusted(torch.tensor([0.9, 1.0, 1.0, 1.1, 20.0]))
    assert bool((trust[:4] > 0.99).all()) and trust[4] < 0.01
    assert trusted(torch.zeros(3)).tolist() == [1, 1, 1]
