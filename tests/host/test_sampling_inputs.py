"""What the sampling nodes show: every input explained, within the limits of the math."""

import pytest

from lumina_next.lumina.parameters import Parameter
from lumina_next.lumina.schedules import SCHEDULES, Schedule
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.sampling_nodes import SAMPLING_NODES, inputs_of, schema


@pytest.mark.parametrize("name", SAMPLING_NODES)
def test_everything_has_a_tooltip(host, name):
    described = schema(name)
    assert described.description and described.search_aliases
    assert described.display_name.startswith("Lumina-Next ")
    for item in [*inputs_of(name), *described.outputs]:
        assert item.tooltip and item.tooltip.endswith("."), item


@pytest.mark.parametrize("name", SAMPLING_NODES)
def test_no_tooltip_is_too_long_to_read(host, name):
    assert all(len(item.tooltip) < 500 for item in inputs_of(name))


def numbers(name):
    return [item for item in inputs_of(name) if hasattr(item, "min") and hasattr(item, "max")]


@pytest.mark.parametrize("name", SAMPLING_NODES)
def test_numbers_have_a_range_with_the_default_inside(host, name):
    assert numbers(name)
    for item in numbers(name):
        assert item.min <= item.default <= item.max, item.id


def test_editor_offers_no_parameter_that_the_schedule_refuses(host):
    (choice,) = [item for item in inputs_of("LuminaNextScheduler") if item.id == "schedule"]
    for option in choice.options:
        for end in ("min", "max"):
            SCHEDULES[option.key](3, **{item.id: getattr(item, end) for item in option.inputs})


def test_added_schedule_is_offered_without_another_change(host, monkeypatch):
    added = Schedule(
        lambda done, power: (1 - done) ** power,
        formula="t = 1 - (1 - u)^power",
        use="more steps at the end.",
        source="this test",
        parameters={"power": Parameter(2.0, 1.0, 4.0, "How much shorter the last steps are.")},
    )
    monkeypatch.setitem(SCHEDULES, "power", added)
    choices = [item for item in inputs_of("LuminaNextScheduler") if item.id == "schedule"]
    choices += [item for item in inputs_of("LuminaNextSampler") if item.id == "schedule"]
    assert len(choices) == 2
    for choice in choices:
        assert "power: more steps at the end." in choice.tooltip
        (number,) = next(option.inputs for option in choice.options if option.key == "power")
        assert (number.id, number.default, number.min, number.max) == ("power", 2.0, 1.0, 4.0)
        assert number.tooltip == "How much shorter the last steps are."
    given = {"schedule": "power", "power": 3.0}
    assert node("LuminaNextScheduler", schedule=given, steps=2, denoise=1.0)[1] == 0.125
