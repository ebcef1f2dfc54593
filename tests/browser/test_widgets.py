"""What the pack draws on its nodes, in a real browser: both renderers, dark and light.

tests/browser/widgets.mjs drives Chromium once for all of these tests; its screenshots, which lie in
pytest's temporary folder, are compared here with what the math says.
"""

import json
import math
import subprocess

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lumina_next.lumina.rope.scaling import Axis, Scaling
from lumina_next.lumina.rope.stretching import stretching, wavelengths_px
from lumina_next.lumina.schedules import SCHEDULES, truncate
from lumina_next.lumina.solvers.plans import PRESETS
from lumina_next.tools.comfyui import PACK_NAME
from lumina_next.tools.environment import BROWSER

pytestmark = pytest.mark.browser

LOOKS = ["classic-dark", "classic-light", "vue-light", "vue-dark"]
SAMPLER, SCHEDULER = "LuminaNextSampler", "LuminaNextScheduler"
RESOLUTION = "LuminaNextResolution"
LINE = np.array([0xE0, 0x88, 0x3A])


def node(number, title, kind, at, values, **rest):
    """A node as the editor saves it; it fills in the inputs."""
    return {
        "id": number,
        "title": title,
        "type": kind,
        "pos": at,
        "size": [270, 400],
        "flags": {},
        "order": number,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": values,
        **rest,
    }


LINKED = {"name": "steps", "type": "INT", "widget": {"name": "steps"}, "link": 1}
VALUE = {"name": "INT", "type": "INT", "links": [1]}
GRAPH = {
    "last_node_id": 9,
    "last_link_id": 1,
    "nodes": [
        node(1, "preset", SAMPLER, [100, 100], [7, "fixed", "Best", 4, 1]),
        node(
            2,
            "custom",
            SAMPLER,
            [420, 100],
            [7, "fixed", "Custom", 5, "rational", 2.5, "midpoint", 4, 0.5],
        ),
        node(3, "plain", SCHEDULER, [740, 100], ["sigmoid", 0.6, 6, 20, 10, 1]),
        node(4, "linked", SCHEDULER, [1060, 100], ["uniform", 10, 1], inputs=[LINKED]),
        node(5, "source", "PrimitiveInt", [1060, 700], [10, "fixed"], outputs=[VALUE]),
        node(6, "garbled", SCHEDULER, [1380, 100], ["absent", "x", None]),
        node(7, "ntk", RESOLUTION, [100, 600], ["ntk", 0, False, "auto"]),
        node(8, "time-aware", RESOLUTION, [420, 600], ["time_aware", 512, False, "auto"]),
        node(9, "folded", SCHEDULER, [740, 600], ["uniform", 10, 1], flags={"collapsed": True}),
    ],
    "links": [[1, 5, 0, 4, 0, "INT"]],
    "groups": [],
    "version": 0.4,
}
SIGMAS = {
    "preset": PRESETS["Best"].sigmas(),
    "custom": truncate(SCHEDULES["rational"], 5, 0.5, shift=2.5),
    "plain": SCHEDULES["sigmoid"](10),
}
CAPTIONS = {
    "preset": "bosh3, sigmoid, 45 model calls",
    "custom": "midpoint, rational, 10 model calls",
    "plain": "sigmoid, 10 steps",
    "linked": "steps comes from another node",
    "ntk": "ntk",
    "time-aware": "time_aware, from noise (faint) to picture",
}


@pytest.fixture(scope="module")
def seen(server, chromium, tmp_path_factory):
    """What widgets.mjs reports."""
    folder = tmp_path_factory.mktemp("widgets")
    texts = PngInfo()
    texts.add_text("workflow", json.dumps(GRAPH))
    Image.new("RGB", (8, 8)).save(folder / "graph.png", pnginfo=texts)
    settings = {
        "url": server.url,
        "chromium": chromium,
        "folder": str(folder),
        "graph": str(folder / "graph.png"),
        "pack": PACK_NAME,
    }
    command = ["node", "widgets.mjs", json.dumps(settings)]
    run = subprocess.run(command, cwd=BROWSER, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, f"{run.stderr}\nComfyUI's log ends:\n{server.log_tail()}"
    return json.loads(run.stdout)


@pytest.fixture(params=LOOKS)
def look(request, seen):
    """What was seen in one renderer with one theme."""
    return seen["looks"][request.param]


def screenshot(look):
    with Image.open(look["screenshot"]) as picture:
        return np.array(picture.convert("RGB")).astype(int)


def is_line(pixels):
    """Which pixels have the line's color rather than one mixed of grays."""
    return (pixels[..., 0] - pixels[..., 2] > 60) & (pixels[..., 0] > 90)


def drawn_heights(look, title):
    """[(x, y)] in the axes' units: where the one line of a picture is, in each column of pixels."""
    left, top, right, bottom = look["pictures"][title]["box"]
    columns = range(math.ceil(left) + 2, math.floor(right) - 2)
    pixels = screenshot(look)[math.floor(top) - 3 : math.ceil(bottom) + 3]
    for column in columns:
        rows = np.flatnonzero(is_line(pixels[:, column]))
        assert len(rows), f"{title} has no line at {column} px"
        row = math.floor(top) - 3 + rows.mean() + 0.5
        yield (column + 0.5 - left) / (right - left), (bottom - row) / (bottom - top)


@pytest.mark.parametrize("title", SIGMAS)
def test_sigmas_are_drawn_where_the_schedule_has_them(look, title):
    sigmas = SIGMAS[title].numpy()
    at = np.linspace(0, 1, len(sigmas))
    for x, y in drawn_heights(look, title):
        # A line of 1.5 px and dots of 5 px, in a picture of about 80 px.
        near = np.interp([x - 0.02, x, x + 0.02], at, sigmas)
        assert near.min() - 0.04 < y < near.max() + 0.04


def test_wavelengths_are_drawn_as_far_as_ntk_stretches_them(look):
    waves = wavelengths_px(72).log().numpy()
    at = (waves - waves[0]) / (waves[-1] - waves[0])
    shares = stretching(Scaling("ntk"), Axis(2.0, 64, 72, 1.0)).numpy()
    for x, y in drawn_heights(look, "ntk"):
        assert abs(y - np.interp(x, at, shares)) < 0.04


def test_each_time_of_a_run_is_a_line(look):
    left, top, right, bottom = look["pictures"]["time-aware"]["box"]
    column = screenshot(look)[:, round(left + 0.35 * (right - left))]
    rows = np.flatnonzero(np.diff(column[round(top) - 3 : round(bottom)].sum(-1)) != 0)
    assert len(rows) >= 8  # an upper and a lower edge of each


def test_captions_say_what_is_set(look):
    shown = {title: look["pictures"][title]["caption"] for title in CAPTIONS}
    assert shown == CAPTIONS


def test_unknown_values_are_said_quietly(look):
    for title in ("linked", "garbled"):
        assert look["pictures"][title]["box"] is None
        assert look["pictures"][title]["isVisible"]
    assert look["pictures"]["garbled"]["caption"]


def test_collapsed_node_shows_nothing(look):
    assert not look["pictures"]["folded"]["isVisible"]
    assert all(look["pictures"][title]["isVisible"] for title in CAPTIONS)


def test_edited_value_is_drawn_and_undone(look):
    assert look["changed"] == ["sigmoid, 11 steps", "sigmoid, 10 steps"]


def test_copy_draws_what_it_was_copied_from(look):
    assert look["copied"] == [CAPTIONS["custom"]] * 2


def test_nodes_of_a_subgraph_draw(look):
    inside = look["inSubgraph"]
    assert {title: picture["caption"] for title, picture in inside.items()} == {
        title: CAPTIONS[title] for title in ("custom", "plain")
    }
    assert all(picture["isVisible"] for picture in inside.values())


def test_graph_is_saved_and_sent_as_without_the_pictures(look, seen):
    assert look["saved"]["nodes"] == seen["without"]["nodes"]
    assert look["saved"]["output"] == seen["without"]["output"]
    values = {node["title"]: node["widgets_values"] for node in GRAPH["nodes"]}
    saved = {node["title"]: node["widgets_values"] for node in look["saved"]["nodes"]}
    assert {title: saved[title] for title in CAPTIONS} == {
        title: values[title] for title in CAPTIONS
    }


def test_nothing_is_thrown_or_written_to_the_console(seen):
    ours = (f"/extensions/{PACK_NAME}/", "/lumina_next/")
    assert seen["exceptions"] == []
    assert [
        message for message in seen["messages"] if any(o in message["from"] for o in ours)
    ] == []


def test_no_other_machine_is_asked(seen):
    assert seen["elsewhere"] == []
