"""Previews: the numbers are those that the nodes compute, and odd requests are refused."""

import json
import urllib.error
import urllib.parse
import urllib.request

import pytest
import torch

from lumina_next.host import previews
from lumina_next.lumina.schedules import SCHEDULES
from lumina_next.lumina.solvers.plans import PRESETS
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.sampling_nodes import custom

RATIONAL = {"schedule": "rational", "schedule.shift": "2.5", "steps": "7", "denoise": "0.6"}
CUSTOM = {
    "preset": "Custom",
    "preset.steps": "3",
    "preset.schedule": "sigmoid",
    "preset.schedule.mu": "0.4",
    "preset.schedule.alpha": "6",
    "preset.schedule.beta": "20",
    "preset.solver": "dopri5",
    "preset.solver.rtol": "0.001",
}
TIME_AWARE = {"method": "time_aware", "trained_size": "0"}
DYPE = {"method": "dype", "method.scale": "2", "method.exponent": "2", "method.base": "yarn"}


def test_scheduler_gives_what_the_node_puts_out(host):
    given = {"schedule": "rational", "shift": 2.5}
    out = node("LuminaNextScheduler", schedule=given, steps=7, denoise=0.6)
    shown = previews.preview("scheduler", RATIONAL)
    assert shown == {"sigmas": out.tolist(), "schedule": "rational"}


@pytest.mark.parametrize("name", PRESETS)
def test_sampler_gives_the_plan_of_a_preset(name):
    plan = PRESETS[name]
    shown = previews.preview("sampler", {"preset": name, "denoise": "0.5"})
    assert shown["sigmas"] == plan.sigmas(0.5).tolist()
    assert (shown["solver"], shown["schedule"]) == (plan.solver, plan.schedule)
    assert shown["model_calls"] == plan.model_calls


def test_sampler_gives_custom_settings():
    shown = previews.preview("sampler", {**CUSTOM, "denoise": "1.0"})
    assert shown["sigmas"] == SCHEDULES["sigmoid"](3, mu=0.4).tolist()
    assert (shown["solver"], shown["model_calls"]) == ("dopri5", None)


def test_nothing_is_drawn_and_nothing_called_at_denoise_0():
    shown = previews.preview("sampler", {"preset": "Fast", "denoise": "0"})
    assert (shown["sigmas"], shown["model_calls"]) == ([], 0)


def test_inputs_become_what_a_node_gets():
    given = previews.nested(CUSTOM)
    parameters = {"mu": 0.4, "alpha": 6, "beta": 20}
    assert given == {"preset": custom("sigmoid", "dopri5", 3, parameters, rtol=0.001)}


def test_resolution_draws_time_dependent_methods_at_several_times():
    shown = previews.preview("resolution", TIME_AWARE)
    assert [line["t"] for line in shown["lines"]] == [0, 0.25, 0.5, 0.75, 1]
    first, *_, last = (torch.tensor(line["stretching"]) for line in shown["lines"])
    assert (first[1:] > 0.999).all() and (last[1:-1] < 0.95).all()
    assert len(shown["wavelengths"]) == len(first)


@pytest.mark.parametrize("given, drawn, assumed", [("0", 1024, True), ("512", 512, False)])
def test_trained_size_of_the_file_is_not_known_before_a_run(given, drawn, assumed):
    shown = previews.preview("resolution", {**TIME_AWARE, "trained_size": given})
    assert (shown["trained_px"], shown["assumed"]) == (drawn, assumed)


@pytest.mark.parametrize(
    "trained, method", [("0", "time_aware"), ("1024", "time_aware"), ("128", "watershed")]
)
def test_auto_is_called_by_what_it_means(trained, method):
    shown = previews.preview("resolution", {"method": "auto", "trained_size": trained})
    assert shown["method"] == method


def test_none_and_linear_are_one_line_each():
    for method, share in (("none", 0), ("linear", 1)):
        shown = previews.preview("resolution", {"method": method, "trained_size": "1024"})
        (line,) = shown["lines"]
        assert line["stretching"] == pytest.approx([share] * 18, abs=1e-5)


def test_dype_takes_its_settings():
    shown = previews.preview("resolution", {**DYPE, "trained_size": "1024"})
    other = previews.preview("resolution", {**DYPE, "method.base": "ntk", "trained_size": "1024"})
    assert shown["lines"] != other["lines"]


@pytest.mark.parametrize(
    "name, inputs, problem",
    [
        ("scheduler", {**RATIONAL, "steps": "0"}, "steps must be a whole number from 1 to 1000"),
        ("scheduler", {**RATIONAL, "steps": "1001"}, "steps must be a whole number from 1 to 1000"),
        ("scheduler", {**RATIONAL, "steps": "2.5"}, "steps must be a whole number from 1 to 1000"),
        ("scheduler", {**RATIONAL, "schedule.shift": "0"}, "shift must be from 0.01 to 100"),
        ("scheduler", {**RATIONAL, "schedule.mu": "0.5"}, "mu is no parameter"),
        ("scheduler", {**RATIONAL, "schedule": "absent"}, "missing or not in the list"),
        ("scheduler", {**RATIONAL, "denoise": "nan"}, "denoise must be from 0 to 1"),
        ("scheduler", {**RATIONAL, "denoise": "1e-9"}, "denoise must be 0 or at least 0.01"),
        ("sampler", {"preset": "absent", "denoise": "1"}, '"preset" is missing or not in the list'),
        ("sampler", {**CUSTOM, "preset.solver": "absent", "denoise": "1"}, "preset.solver"),
        ("resolution", {**TIME_AWARE, "method": "absent"}, '"method" is missing or not in'),
        ("resolution", {**TIME_AWARE, "trained_size": "16385"}, "trained_size must be a whole"),
    ],
)
def test_value_that_no_widget_offers_is_a_problem_in_words(name, inputs, problem):
    assert problem in previews.preview(name, inputs)["problem"]


@pytest.mark.parametrize("value", ["", "undefined", "null", "[1]", "9" * 5000])
@pytest.mark.parametrize("changed", ["steps", "denoise", "schedule", "schedule.shift"])
def test_any_text_is_answered(changed, value):
    assert previews.preview("scheduler", {**RATIONAL, changed: value})["problem"]


@pytest.mark.parametrize(
    "name, inputs, message",
    [
        ("absent", {}, "There is no preview"),
        ("scheduler", {}, "missing a required argument"),
        ("scheduler", {**RATIONAL, "absent": "1"}, "absent"),
        ("scheduler", {**RATIONAL, "absent.shift": "1"}, "absent"),
        ("scheduler", {**RATIONAL, "steps.shift": "1"}, "does not have these inputs"),
    ],
)
def test_unknown_names_are_refused(name, inputs, message):
    with pytest.raises(ValueError, match=message):
        previews.preview(name, inputs)


def ask(server, name, inputs):
    """(status, text, headers) of the server's answer."""
    query = urllib.parse.urlencode(inputs)
    try:
        answer = urllib.request.urlopen(f"{server.url}/api/lumina_next/preview/{name}?{query}")
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        return answer.status, answer.read().decode(), answer.headers


def test_server_answers_with_the_numbers_for_the_browser_to_keep(server):
    status, text, headers = ask(server, "scheduler", RATIONAL)
    assert (status, json.loads(text)) == (200, previews.preview("scheduler", RATIONAL))
    assert headers["Cache-Control"] == "private, max-age=600"


@pytest.mark.parametrize(
    "name, inputs", [("absent", {}), ("scheduler", {**RATIONAL, "absent": "1"})]
)
def test_server_refuses_unknown_names_in_words(server, name, inputs):
    status, text, _ = ask(server, name, inputs)
    assert status == 400
    assert "absent" in text
