"""Graphs of LuminaWrapper and the DiffusersWrapper open with our nodes, values kept, and run.

tests/browser/wrapper_graphs.mjs drives Chromium once for all of these tests; what it saw is
asserted here.
"""

import json
import subprocess

import pytest

from lumina_next.tests.support.wrapper_graphs import (
    DIFFUSERS_WRAPPER,
    LUMINA_WRAPPER,
    LUMINA_WRAPPER_AREAS,
)
from lumina_next.tools.environment import BROWSER

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def seen(server, chromium):
    """What wrapper_graphs.mjs reports."""
    settings = {
        "url": server.url,
        "chromium": chromium,
        "graphs": {
            "wrapper": LUMINA_WRAPPER,
            "diffusers": DIFFUSERS_WRAPPER,
            "areas": LUMINA_WRAPPER_AREAS,
        },
        "runnable": "wrapper",
        "file": "lumina-next-demo.safetensors",
    }
    command = ["node", "wrapper_graphs.mjs", json.dumps(settings)]
    run = subprocess.run(command, cwd=BROWSER, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"{run.stderr}\nComfyUI's log ends:\n{server.log_tail()}"
    return json.loads(run.stdout)


@pytest.fixture(params=["wrapper", "diffusers"])
def opened(seen, request):
    return seen["opened"][request.param]


def inputs(opened, kind):
    (node,) = [node for node in opened["prompt"].values() if node["class_type"] == kind]
    return node["inputs"]


def type_at(opened, link):
    return opened["prompt"][link[0]]["class_type"]


def test_every_node_is_there(opened):
    assert [node["type"] for node in opened["nodes"] if not node["isKnown"]] == []


def test_sampler_has_its_model_both_prompts_and_latent(opened):
    sampler = inputs(opened, "LuminaNextSampler")
    assert type_at(opened, sampler["model"]) == "LuminaNextResolution"
    assert type_at(opened, inputs(opened, "LuminaNextResolution")["model"]).endswith("ModelLoader")
    assert type_at(opened, sampler["positive"]) == "LuminaNextTextEncode"
    assert sampler["negative"] == [sampler["positive"][0], 1]
    assert type_at(opened, inputs(opened, "LuminaNextTextEncode")["clip"]).endswith("EncoderLoader")


def test_values_of_the_wrapper_are_kept(seen):
    opened = seen["opened"]["wrapper"]
    sampler = inputs(opened, "LuminaNextSampler")
    assert (sampler["seed"], sampler["cfg"]) == (7, 3.5)
    assert sampler["preset.solver"] == "midpoint"
    assert (sampler["preset.schedule"], sampler["preset.schedule.shift"]) == ("rational", 6)
    assert inputs(opened, "LuminaNextResolution")["method"] == "watershed"
    assert inputs(opened, "LuminaNextResolution")["method.watershed"] == 0.25
    assert inputs(opened, "LuminaNextTextEncode")["negative"] == "blue"


def test_points_less_those_that_strength_leaves_out_become_steps(seen):
    """11 points are 10 steps; strength 0.5 leaves out the first 5."""
    sampler = inputs(seen["opened"]["wrapper"], "LuminaNextSampler")
    assert (sampler["preset.steps"], sampler["denoise"]) == (5, 0.5)


def test_values_of_the_diffusers_wrapper_are_kept(seen):
    opened = seen["opened"]["diffusers"]
    sampler = inputs(opened, "LuminaNextSampler")
    assert (sampler["seed"], sampler["cfg"], sampler["preset.steps"]) == (9, 5, 12)
    assert (sampler["preset.solver"], sampler["preset.schedule.shift"]) == ("euler", 3)
    encoded = inputs(opened, "LuminaNextTextEncode")
    assert (encoded["positive"], encoded["negative"]) == ("a blue ring", "red")
    assert encoded["cleaning"] == "Latin text"
    assert inputs(opened, "LuminaNextSize")["batch_size"] == 2


def test_prompts_of_areas_are_put_where_their_rows_and_columns_say(seen):
    opened = seen["opened"]["areas"]
    assert [node["type"] for node in opened["nodes"] if not node["isKnown"]] == []
    grid = inputs(opened, "LuminaNextGrid")
    assert (grid["rows"], grid["columns"]) == (2, 2)
    assert grid["prompts"].split("\n") == ["one, art", "two, art", "three, art", "four, art"]
    assert type_at(opened, grid["clip"]).endswith("EncoderLoader")
    sampler = inputs(opened, "LuminaNextSampler")
    assert type_at(opened, sampler["positive"]) == "LuminaNextGrid"
    assert inputs(opened, "CLIPTextEncode")["text"] == "ugly"
    assert type_at(opened, sampler["negative"]) == "CLIPTextEncode"


def test_it_runs_to_a_picture(seen):
    assert "refusal" not in seen["run"], seen["run"]
    assert seen["run"]["shown"] == [[128, 128]]


def test_nothing_fails_inside_the_page(seen):
    assert seen["exceptions"] == []
