"""Graphs as the editor saves them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from tools.comfyui import PACK_NAME
from tools.environment import ROOT

from .declarations import CORE, Declaration, Input
from .graph import Graph, Node

Json = dict[str, Any]
Declarations = Mapping[str, Declaration]

FRONTEND = "1.47.12"  # whose form this is
SCREEN = (1790, 860)  # px that the editor leaves for the graph on a screen of 1920 x 1080
CORNER = (80, 110)  # px to the first node, beside the sidebar and below the buttons
NAMESPACE = uuid.UUID("3f0d4b3e-6d3c-4b43-9a39-0a6b6e8f5f43")
BYPASSED = 4
GROUP_COLOR = "#3f789e"


def to_json(graph: Graph, declarations: Declarations, versions: Mapping[str, str]) -> Json:
    """versions: of every pack, by its name in the registry."""
    links = list(numbered_links(graph, declarations))
    return {
        "id": str(uuid.uuid5(NAMESPACE, graph.name)),
        "revision": 0,
        "last_node_id": len(graph.nodes),
        "last_link_id": len(links),
        "nodes": [
            node_json(node, declarations, links, versions, graph.after_run) for node in graph.nodes
        ],
        "links": links,
        "groups": [group_json(number, graph) for number in range(len(graph.groups))],
        "config": {},
        "extra": extra(graph),
        "version": 0.4,
    }


def text(graph: Graph, declarations: Declarations, versions: Mapping[str, str]) -> str:
    """The file's content."""
    return json.dumps(to_json(graph, declarations, versions), indent=1, ensure_ascii=False) + "\n"


def numbered_links(graph: Graph, declarations: Declarations) -> Iterator[list[Any]]:
    """[number, from node, its output, to node, its input, type] of each."""
    number = 0
    for node in graph.nodes:
        for slot, item in enumerate(saved_inputs(node, declarations)):
            if item.name in node.links:
                number += 1
                source = node.links[item.name]
                kind = declarations[source.node.type].outputs[source.slot][1]
                yield [number, source.node.id, source.slot, node.id, slot, kind]


def saved_inputs(node: Node, declarations: Declarations) -> list[Input]:
    """Those without a widget first, as the editor saves them. Raises ValueError for an unknown one
    in the description.
    """
    if node.type not in declarations:
        return []
    inputs = list(declarations[node.type].inputs_with(node.given))
    if unknown := {*node.values, *node.links} - {item.name for item in inputs}:
        raise ValueError(f"{node.type} has no input {', '.join(sorted(unknown))}.")
    return sorted(inputs, key=lambda item: item.is_widget)


def node_json(
    node: Node,
    declarations: Declarations,
    links: list[list[Any]],
    versions: Mapping[str, str],
    after_run: str,
) -> Json:
    coming = {link[4]: link[0] for link in links if link[3] == node.id}
    inputs = saved_inputs(node, declarations)
    saved: Json = {
        "id": node.id,
        "type": node.type,
        "pos": list(node.place),
        "size": list(node.extent),
        "flags": {},
        "order": node.id - 1,
        "mode": BYPASSED if node.is_bypassed else 0,
        "inputs": [input_json(item, coming.get(slot)) for slot, item in enumerate(inputs)],
        "outputs": output_json(node, declarations, links),
    }
    if node.title:
        saved["title"] = node.title
    saved["properties"] = properties(node, declarations, versions)
    saved["widgets_values"] = list(widget_values(node, declarations, after_run))
    return saved


def input_json(item: Input, link: int | None) -> Json:
    saved: Json = {"localized_name": item.name, "name": item.name, "type": item.kind}
    if item.is_widget:
        saved["widget"] = {"name": item.name}
    return saved | {"link": link}


def output_json(node: Node, declarations: Declarations, links: list[list[Any]]) -> list[Json]:
    if node.type not in declarations:
        return []
    return [
        {
            "localized_name": name,
            "name": name,
            "type": kind,
            "links": [link[0] for link in links if link[1:3] == [node.id, slot]],
        }
        for slot, (name, kind) in enumerate(declarations[node.type].outputs)
    ]


def properties(node: Node, declarations: Declarations, versions: Mapping[str, str]) -> Json:
    if node.type not in declarations:
        return {}
    pack = declarations[node.type].pack
    saved: Json = {"cnr_id": pack, "ver": versions[pack], "Node name for S&R": node.type}
    return saved | ({"models": [dict(file) for file in node.downloads]} if node.downloads else {})


def widget_values(node: Node, declarations: Declarations, after_run: str) -> Iterator[object]:
    """In the order of the inputs that have a widget, with one more after a seed."""
    if node.type not in declarations:
        yield from node.values.values()
        return
    for item in declarations[node.type].inputs_with(node.given):
        if item.is_widget:
            yield node.values[item.name] if item.name in node.values else item.initial
            if item.settings.get("control_after_generate"):
                yield after_run


def group_json(number: int, graph: Graph) -> Json:
    group = graph.groups[number]
    return {
        "id": number + 1,
        "title": group.title,
        "bounding": list(group.box),
        "color": GROUP_COLOR,
        "flags": {},
    }


def extra(graph: Graph) -> Json:
    left, top, width, height = frame(graph)
    scale = min(1.0, SCREEN[0] / width, SCREEN[1] / height)
    offset = [CORNER[0] / scale - left, CORNER[1] / scale - top]
    saved: Json = {
        "ds": {"scale": round(scale, 2), "offset": [round(side) for side in offset]},
        "frontendVersion": FRONTEND,
        "workflowRendererVersion": "LG",
    }
    if graph.app:
        pictures = [node.id for node in graph.nodes if node.type == "SaveImage"]
        inputs = [[node.id, name] for node, name in graph.app]
        saved |= {"linearMode": False, "linearData": {"inputs": inputs, "outputs": pictures}}
    return saved


def frame(graph: Graph) -> tuple[int, int, int, int]:
    """Left, top, width and height of everything."""
    boxes = [(*group.box[:2], *group.box[2:]) for group in graph.groups]
    boxes += [(node.place[0], node.place[1] - 30, *node.extent) for node in graph.nodes]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right = max(box[0] + box[2] for box in boxes)
    bottom = max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def versions(comfyui: str) -> dict[str, str]:
    """Of ComfyUI and of this pack, by their names in the registry."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    found = re.search(r'^version = "(.+)"$', project, re.M)
    if found is None:
        raise ValueError("pyproject.toml says no version.")
    return {CORE: comfyui, PACK_NAME: found.group(1)}
