"""The templates can be read as they are committed: nothing overlaps, and text is large enough."""

import json

import pytest

from lumina_next.tests.support import graph_geometry as geometry
from lumina_next.tests.support.editor_graphs import by_id, links
from lumina_next.tools.environment import ROOT

FILES = sorted((ROOT / "workflows").glob("*.json"))
SMALLEST_SCALE = 0.6  # the editor draws no text below 0.5
SCREEN = (1920, 1080)
TABS, SIDEBAR = 38, 58  # px at the top and at the left of the editor
BUTTONS = 70  # px below the tabs
LIVE_PREVIEW = 200  # units, under a sampler


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request):
    return json.loads(request.param.read_text("utf-8"))


def test_nodes_do_not_overlap(workflow):
    assert geometry.overlaps(geometry.node_boxes(workflow)) == []


def test_groups_do_not_overlap(workflow):
    assert geometry.overlaps(geometry.group_boxes(workflow)) == []


def test_a_group_encloses_every_node_that_it_touches(workflow):
    for title, group in geometry.group_boxes(workflow).items():
        for name, node in geometry.node_boxes(workflow).items():
            is_apart = not geometry.overlap(group, node)
            assert is_apart or geometry.encloses(group, node), (title, name)


def test_every_sampler_has_room_for_its_live_preview(workflow):
    samplers = [n for n in workflow["nodes"] if n["type"] == "LuminaNextSampler"]
    if len(samplers) > 2:
        pytest.skip("three samplers with such room would open too small to read")
    boxes = geometry.node_boxes(workflow)
    for node in samplers:
        left, top, right, bottom = boxes[node["id"]]
        grown = left, top, right, bottom + LIVE_PREVIEW
        others = [box for name, box in boxes.items() if name != node["id"]]
        assert not any(geometry.overlap(grown, other) for other in others)
        groups = geometry.group_boxes(workflow).values()
        assert any(geometry.encloses(group, grown) for group in groups)


def test_links_cross_only_where_both_nodes_feed_both_others(workflow):
    """Two nodes that feed the same two samplers cannot be drawn without: inputs have an order."""
    targets = {}
    for origin, _, target, _, _ in links(workflow).values():
        targets.setdefault(origin, set()).add(target)
    for one, other in geometry.crossings(workflow):
        (a, _, x, *_), (b, _, y, *_) = links(workflow)[one], links(workflow)[other]
        assert {x, y} <= targets[a] & targets[b], (by_id(workflow)[a]["type"], by_id(workflow)[x])


def test_crossing_links_are_found():
    def node(name, place):
        entry = {"inputs": [{}], "outputs": [{}]}
        return {"id": name, "type": "Node", "pos": place, "size": [100, 40], **entry}

    nodes = [node(1, [0, 0]), node(2, [0, 200]), node(3, [300, 0]), node(4, [300, 200])]
    straight = [[1, 1, 0, 3, 0, "*"], [2, 2, 0, 4, 0, "*"]]
    crossed = [[1, 1, 0, 4, 0, "*"], [2, 2, 0, 3, 0, "*"]]
    assert geometry.crossings({"nodes": nodes, "links": straight}) == []
    assert geometry.crossings({"nodes": nodes, "links": crossed}) == [(1, 2)]


def test_it_opens_whole_and_large_enough_to_read(workflow):
    view = workflow["extra"]["ds"]
    assert view["scale"] >= SMALLEST_SCALE
    boxes = [*geometry.node_boxes(workflow).values(), *geometry.group_boxes(workflow).values()]
    for left, top, right, bottom in boxes:
        x, y = on_screen(view, left, top)
        end_x, end_y = on_screen(view, right, bottom)
        assert x >= SIDEBAR and end_x <= SCREEN[0]
        assert y >= BUTTONS and end_y <= SCREEN[1] - TABS


def on_screen(view, x, y):
    return tuple(view["scale"] * (u + v) for u, v in zip((x, y), view["offset"], strict=True))


def test_notes_have_no_colors_of_their_own(workflow):
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            assert not {"color", "bgcolor"} & node.keys()


def test_every_node_names_its_pack_and_version(workflow):
    for node in workflow["nodes"]:
        if node["type"] != "MarkdownNote":
            pack = "lumina-next" if node["type"].startswith("LuminaNext") else "comfy-core"
            assert node["properties"]["cnr_id"] == pack
            assert node["properties"]["ver"].count(".") == 2
