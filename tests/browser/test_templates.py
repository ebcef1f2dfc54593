"""The pack's templates in ComfyUI's editor: they are found, open, are legible, and run.

tests/browser/templates.mjs drives Chromium once for all of these tests; what it saw is asserted
here. Its screenshots lie in pytest's temporary folder.
"""

import itertools
import json
import subprocess

import pytest

from lumina_next.tests.support.graph_geometry import overlap
from lumina_next.tools.comfyui import PACK_NAME
from lumina_next.tools.environment import BROWSER, ROOT

pytestmark = pytest.mark.browser


def number(path):
    return int(path.stem.split()[1])


FILES = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted((ROOT / "workflows").glob("*.json"), key=number)
}
NEEDING_FILES = {
    name
    for name, file in FILES.items()
    if any(node["properties"].get("models") for node in file["nodes"])
}
RUNNABLE = [name for name in FILES if name not in NEEDING_FILES]
(BLUEPRINT,) = (ROOT / "subgraphs").glob("*.json")
LOADERS = {"LuminaNextModelLoader", "LuminaNextTextEncoderLoader", "VAELoader"}


@pytest.fixture(scope="module")
def seen(server, chromium, tmp_path_factory):
    """What templates.mjs reports."""
    settings = {
        "url": server.url,
        "chromium": chromium,
        "folder": str(tmp_path_factory.mktemp("templates")),
        "pack": PACK_NAME,
        "names": list(FILES),
        "runnable": RUNNABLE,
        "blueprint": BLUEPRINT.stem,
    }
    command = ["node", "templates.mjs", json.dumps(settings)]
    run = subprocess.run(command, cwd=BROWSER, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, f"{run.stderr}\nComfyUI's log ends:\n{server.log_tail()}"
    return json.loads(run.stdout)


@pytest.fixture(params=["classic-dark-en", "nodes2-light-en", "classic-light-zh", "nodes2-dark-zh"])
def opened(seen, request):
    """{template: what was seen of it} in one look of the editor."""
    return seen["opened"][request.param]


def test_every_node_is_there(opened):
    for name, template in opened.items():
        assert len(template["nodes"]) == len(FILES[name]["nodes"])
        assert [node["type"] for node in template["nodes"] if not node["isKnown"]] == []


def test_those_on_the_demo_model_open_without_a_complaint(opened):
    for name in RUNNABLE:
        assert opened[name]["complaints"] == [], name
        assert not any(node["isFaulty"] for node in opened[name]["nodes"]), name


def test_of_the_others_the_editor_misses_the_three_files(opened):
    for name in NEEDING_FILES:
        faulty = {node["type"] for node in opened[name]["nodes"] if node["isFaulty"]}
        assert faulty == LOADERS, name
        assert opened[name]["complaints"], name


def test_widgets_hold_the_values_of_the_file(opened):
    for name, template in opened.items():
        shown = {str(node["id"]): list(node["widgets"].values()) for node in template["nodes"]}
        saved = {str(node["id"]): node["widgets_values"] for node in FILES[name]["nodes"]}
        assert {key: shown[key][: len(values)] for key, values in saved.items()} == saved, name


def test_it_opens_at_a_zoom_that_shows_text(opened):
    assert min(template["scale"] for template in opened.values()) >= 0.6


def test_nodes_do_not_overlap_as_they_are_drawn(opened):
    for name, template in opened.items():
        pairs = itertools.combinations(template["boxes"], 2)
        assert not any(overlap(one, other) for one, other in pairs), name


def test_our_nodes_are_as_high_as_the_file_says(opened):
    """The editor alone forgets the height of a node whose choices bring inputs."""
    for name, template in opened.items():
        saved = {str(node["id"]): node["size"][1] for node in FILES[name]["nodes"]}
        for node, (_, top, _, bottom) in zip(template["nodes"], template["boxes"], strict=True):
            if node["type"].startswith("LuminaNext"):
                assert bottom - top >= saved[str(node["id"])], (name, node["type"])


def test_search_lists_ours_first(seen):
    listed = seen["found"]["listed"]
    assert set(listed[: len(FILES)]) == FILES.keys()


def test_click_in_the_template_browser_opens_the_first(seen):
    (first, *_) = FILES.values()
    assert seen["found"]["types"] == [node["type"] for node in first["nodes"]]


def test_simple_view_shows_prompt_size_and_seed(seen):
    for shown in ("positive", "size", "seed"):
        assert shown in seen["simple"]
    assert "latent_format" not in seen["simple"]


@pytest.mark.parametrize("name", RUNNABLE)
def test_it_runs_to_a_picture(seen, name):
    run = seen["ran"][name]
    assert "refusal" not in run, run
    assert run["complaints"] == [] and run["shown"]


def test_picture_dragged_onto_the_canvas_brings_its_graph_back(seen):
    assert seen["dropped"]["before"]
    assert seen["dropped"]["after"] == seen["dropped"]["before"]


def test_blueprint_is_found_has_its_inputs_and_runs(seen):
    added = seen["added"]
    assert {"prompt", "negative prompt", "width", "height", "seed", "model"} <= set(added["shown"])
    assert "refusal" not in added, added
    assert added["complaints"] == [] and added["pictures"] == [[128, 128]]


def test_nothing_fails_inside_the_page(seen):
    assert seen["exceptions"] == [] and seen["errors"] == []
