"""Graphs as the server runs them (API format), and the pictures that they draw."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image

from demo import client

from .declarations import Declaration
from .graph import Graph, Node, Output

Declarations = Mapping[str, Declaration]


def to_api(graph: Graph, declarations: Declarations) -> dict[str, object]:
    return {
        str(node.id): {
            "class_type": node.type,
            "inputs": inputs(node, declarations),
            "_meta": {"title": node.title or node.type},
        }
        for node in graph.nodes
        if node.type in declarations and not node.is_bypassed
    }


def inputs(node: Node, declarations: Declarations) -> dict[str, object]:
    """Links, and values where there is none."""
    values: dict[str, object] = {}
    for item in declarations[node.type].inputs_with(node.given):
        if item.name in node.links:
            source = through_bypassed(node.links[item.name], declarations)
            values[item.name] = [str(source.node.id), source.slot]
        elif item.is_widget:
            values[item.name] = node.values.get(item.name, item.initial)
    return values


def through_bypassed(output: Output, declarations: Declarations) -> Output:
    """Where a value comes from: a bypassed node hands on its first input of the output's type."""
    node = output.node
    if not node.is_bypassed:
        return output
    declared = declarations[node.type]
    kind = declared.outputs[output.slot][1]
    name = next(i.name for i in declared.inputs if i.kind == kind and i.name in node.links)
    return through_bypassed(node.links[name], declarations)


def draw(url: str, graph: Graph, declarations: Declarations) -> list[Image.Image]:
    """What the graph's Save Image nodes save, in the order of the nodes."""
    api = to_api(graph, declarations)
    saved = client.wait_by_node(url, client.queue(url, api))
    return [opened(url, file) for node in graph.nodes for file in saved.get(str(node.id), [])]


def opened(url: str, file: dict[str, str]) -> Image.Image:
    return Image.open(io.BytesIO(client.download(url, file))).convert("RGB")
