"""Plans and presets: they name what exists, and say what they cost."""

import pytest

from lumina_next.lumina.schedules import SCHEDULES, truncate
from lumina_next.lumina.solvers import SOLVERS
from lumina_next.lumina.solvers.plans import DEFAULT_PRESET, PRESETS, Plan


@pytest.mark.parametrize("name", PRESETS)
def test_preset_can_be_run(name):
    plan = PRESETS[name]
    assert plan.solver in SOLVERS
    assert len(plan.sigmas()) == plan.steps + 1
    assert plan.model_calls >= plan.steps


def test_fast_is_fast():
    assert PRESETS["Fast"].model_calls <= 10
    assert PRESETS["Fast"].model_calls < PRESETS["Balanced"].model_calls
    assert PRESETS["Balanced"].model_calls < PRESETS["Best"].model_calls


def test_sigmas_are_those_of_the_schedule_with_its_parameters():
    plan = Plan(5, "rational", "euler", {"shift": 2.0})
    expected = truncate(SCHEDULES["rational"], 5, 0.5, shift=2.0)
    assert plan.sigmas(0.5).equal(expected)


def test_calls_of_an_adaptive_solver_are_not_known():
    assert Plan(5, "uniform", "dopri5").model_calls is None


def test_illegal_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="steps must be a whole number from 1 to 1000, got 0"):
        Plan(0, "uniform", "euler")


def test_presets_go_from_fast_to_slow_and_the_default_is_one_of_them():
    assert list(PRESETS)[:3] == ["Fast", "Balanced", "Best"]
    assert DEFAULT_PRESET in PRESETS


def test_summary_says_what_a_run_costs():
    assert PRESETS["Fast"].summary == "euler, sigmoid, 10 model calls"
    assert Plan(5, "uniform", "dopri5").summary == "dopri5, uniform"
