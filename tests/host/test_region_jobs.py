"""Graphs with regions as jobs: right links and numbers draw, wrong ones are refused before."""

import pytest

from lumina_next.tests.support import tiny
from lumina_next.tests.support.region_nodes import BOX, SETTINGS


@pytest.fixture
def graph(host):
    """Two chained regions beside a global prompt, drawn and plotted."""
    tiny.write_models(host)
    tiny.write_gemma(host)
    graph = tiny.graph()

    def add(name, kind, **inputs):
        graph[name] = {"class_type": kind, "inputs": inputs}

    for name, text in (("first", "a red cat"), ("second", "the old tree")):
        add(name, "CLIPTextEncode", clip=["text", 0], text=text)
    add("left", "LuminaNextRegion", prompt=["first", 0], **BOX | SETTINGS | {"width": 0.5})
    add(
        "right",
        "LuminaNextRegion",
        prompt=["second", 0],
        regions=["left", 0],
        **BOX | SETTINGS | {"x": 0.5},
    )
    add("regions", "LuminaNextRegions", global_prompt=["prompt", 0], regions=["right", 0])
    add("plot", "LuminaNextPlotRegions", prompt=["regions", 0], latent=["empty", 0])
    graph["sampler"]["inputs"]["positive"] = ["regions", 0]
    return graph


def test_regions_are_drawn_and_plotted(host, graph):
    shown = host.run(graph)
    assert len(shown["plot"]["images"]) == 1 and shown["save"]["latents"]


def test_grid_is_drawn_with_what_a_program_leaves_out(host, graph):
    graph["regions"] = {
        "class_type": "LuminaNextGrid",
        "inputs": {"clip": ["text", 0], "prompts": "a cat\na dog", "rows": 1, "columns": 2},
    }
    del graph["left"], graph["right"]
    shown = host.run(graph)
    assert shown["plot"]["images"] and shown["save"]["latents"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("left", {"x": 1.5}),
        ("left", {"weight": -1.0}),
        ("regions", {"regions": ["prompt", 0]}),
        ("left", {"prompt": ["empty", 0]}),
    ],
)
def test_wrong_number_or_link_is_refused_before_anything_runs(host, graph, name, changes):
    graph[name]["inputs"].update(changes)
    with pytest.raises(ValueError):
        host.run(graph)


def test_missing_prompt_of_a_cell_is_told(host, graph):
    graph["regions"] = {
        "class_type": "LuminaNextGrid",
        "inputs": {"clip": ["text", 0], "prompts": "a cat", "rows": 2, "columns": 2},
    }
    with pytest.raises(RuntimeError, match="2 x 2 has 4 cells, and there is 1 prompt"):
        host.run(graph)


def test_everything_has_a_tooltip(host):
    from lumina_next.nodes.regions import NODES

    for node in NODES:
        described = node.GET_SCHEMA()
        assert described.description.endswith(".") and described.search_aliases
        assert all(item.tooltip.endswith(".") for item in [*described.inputs, *described.outputs])
