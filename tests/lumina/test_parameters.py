"""Limits: what a number is refused for, and that no default is beyond its own."""

from dataclasses import dataclass

import pytest

from lumina_next.lumina.options import context_drop, guidance
from lumina_next.lumina.parameters import Parameter, check_fields
from lumina_next.lumina.rope import scaling
from lumina_next.lumina.schedules import DENOISE, STEPS
from lumina_next.lumina.solvers import PARAMETERS

SHARE = Parameter(0.5, 0.0, 1.0, "A share.")
COUNT = Parameter(2, 1, 8, "A count.")
EVERY = [
    STEPS,
    DENOISE,
    guidance.CFG,
    scaling.TRAINED_SIZE,
    *PARAMETERS["dopri5"].values(),
    *guidance.PARAMETERS.values(),
    *context_drop.PARAMETERS.values(),
    *scaling.PARAMETERS.values(),
]


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 1])
def test_number_within_its_limits_is_taken(value):
    SHARE.check("share", value)


@pytest.mark.parametrize("value", [-1e-9, 1.1, float("nan"), float("inf")])
def test_number_out_of_its_limits_is_named(value):
    with pytest.raises(ValueError, match=f"share must be from 0 to 1, got {value}"):
        SHARE.check("share", value)


@pytest.mark.parametrize("value", [0, 9, 2.5, float("nan"), float("inf")])
def test_count_must_be_whole(value):
    with pytest.raises(ValueError, match=f"count must be a whole number from 1 to 8, got {value}"):
        COUNT.check("count", value)


def test_float_that_is_whole_counts():
    COUNT.check("count", 3.0)


def test_fields_of_a_dataclass_are_checked_by_name():
    @dataclass(frozen=True)
    class Settings:
        share: float = 0.5
        count: int = 2

    parameters = {"share": SHARE, "count": COUNT}
    check_fields(parameters, Settings())
    with pytest.raises(ValueError, match="count must be"):
        check_fields(parameters, Settings(count=9))


@pytest.mark.parametrize("parameter", EVERY, ids=lambda item: item.meaning[:20])
def test_default_is_legal_and_explained(parameter):
    parameter.check("default", parameter.default)
    assert parameter.meaning.endswith(".")
