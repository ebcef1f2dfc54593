"""The node "Text to Image (Lumina-Next)": a whole graph in one node, as ComfyUI offers it to add.

The file is a workflow with that one node, and the graph in it as a subgraph.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import parts
from .first import PLAIN
from .graph import Graph, Node
from .saving import NAMESPACE, Declarations, Json, frame, to_json

NAME = "Text to Image (Lumina-Next)"
DESCRIPTION = (
    "Draws a picture of a text with Lumina-Next. It begins with the small demo model, which needs "
    "no download; choose the released files for real pictures."
)
INSIDE, OUTSIDE = -10, -20  # what the editor calls a subgraph's own inputs and outputs
FROM_LEFT = 260  # units from the inputs to the first node
EXTENT = (420, 480)


@dataclass(frozen=True)
class Promoted:
    """An input of a node inside that the node outside has. label: what it is called there."""

    node: Node
    name: str
    label: str


def described() -> tuple[Graph, list[Promoted], Node]:
    """The graph, what the node shows of it, and the node whose picture comes out."""
    graph = Graph(NAME)
    model, clip = parts.loaders(graph)
    encoded = parts.prompts(graph, clip, PLAIN)
    empty = graph.add(
        "EmptyLatentImage", (parts.LEFT, 530), (360, 120), width=128, height=128, batch_size=1
    )
    graph.group("Size", empty)
    drawn = parts.sampler(graph, (830, 0), (model, encoded, encoded[1], empty))
    graph.group("Sampling", drawn)
    vae = parts.vae(graph, (830, 700))
    decoded = graph.add("VAEDecode", (1330, 0), parts.size_of("VAEDecode"), samples=drawn, vae=vae)
    shown = [
        Promoted(encoded, "positive", "prompt"),
        Promoted(encoded, "negative", "negative prompt"),
        Promoted(empty, "width", "width"),
        Promoted(empty, "height", "height"),
        Promoted(empty, "batch_size", "pictures"),
        Promoted(drawn, "seed", "seed"),
        Promoted(drawn, "cfg", "cfg"),
        Promoted(model, "model_name", "model"),
        Promoted(clip, "text_encoder_name", "text encoder"),
        Promoted(vae, "vae_name", "VAE"),
    ]
    return graph, shown, decoded


def text(declarations: Declarations, versions: Mapping[str, str]) -> str:
    """The file's content."""
    graph, shown, last = described()
    inner = subgraph(graph, shown, last, to_json(graph, declarations, versions))
    number = inner["state"]["lastNodeId"] + 1
    whole = {
        "id": identity("file"),
        "revision": 0,
        "last_node_id": number,
        "last_link_id": 0,
        "nodes": [outer_node(number, inner, shown, versions)],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [inner]},
        "extra": {"BlueprintDescription": DESCRIPTION},
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def identity(what: str) -> str:
    """The same at every run."""
    return str(uuid.uuid5(NAMESPACE, f"{NAME}: {what}"))


def subgraph(graph: Graph, shown: list[Promoted], last: Node, saved: Json) -> Json:
    """The definition: the saved graph with links from its inputs and to its output."""
    nodes = {node["id"]: node for node in saved["nodes"]}
    links = [dict(zip(LINK, link, strict=True)) for link in saved["links"]]
    left, top, width, _ = frame(graph)
    inputs = []
    for slot, item in enumerate(shown):
        entry = entry_of(nodes[item.node.id], item.name)
        ends = (INSIDE, slot, item.node.id, nodes[item.node.id]["inputs"].index(entry))
        number = linked(links, ends, entry["type"])
        entry["link"] = number
        inputs.append(
            {
                "id": identity(item.label),
                "name": item.name,
                "type": entry["type"],
                "linkIds": [number],
                "label": item.label,
                "pos": [left - FROM_LEFT + 100, top + 20 + 20 * slot],
            }
        )
    picture = nodes[last.id]["outputs"][0]
    number = linked(links, (last.id, 0, OUTSIDE, 0), picture["type"])
    picture["links"] = [number]
    right = left + width + 100
    return {
        "id": identity("definition"),
        "version": 1,
        "state": {
            "lastGroupId": len(saved["groups"]),
            "lastNodeId": saved["last_node_id"],
            "lastLinkId": number,
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": NAME,
        "inputNode": {
            "id": INSIDE,
            "bounding": [left - FROM_LEFT, top, 120, 40 + 20 * len(shown)],
        },
        "outputNode": {"id": OUTSIDE, "bounding": [right, top, 120, 60]},
        "inputs": inputs,
        "outputs": [
            {
                "id": identity("picture"),
                "name": picture["name"],
                "type": picture["type"],
                "linkIds": [number],
                "localized_name": picture["name"],
                "pos": [right + 20, top + 20],
            }
        ],
        "widgets": [],
        "nodes": saved["nodes"],
        "groups": saved["groups"],
        "links": links,
        "extra": {},
        "category": "Lumina-Next",
        "description": DESCRIPTION,
    }


LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def linked(links: list[Json], ends: tuple[int, int, int, int], kind: str) -> int:
    """The number of a new link between these ends."""
    number = len(links) + 1
    links.append(dict(zip(LINK, (number, *ends, kind), strict=True)))
    return number


def entry_of(node: Json, name: str) -> dict[str, Any]:
    return next(entry for entry in node["inputs"] if entry["name"] == name)


def outer_node(
    number: int, inner: Json, shown: list[Promoted], versions: Mapping[str, str]
) -> Json:
    return {
        "id": number,
        "type": inner["id"],
        "pos": [0, 0],
        "size": list(EXTENT),
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [
            {
                "label": item.label,
                "name": item.name,
                "type": entry["type"],
                "widget": {"name": item.name},
                "link": None,
            }
            for item, entry in zip(shown, inner["inputs"], strict=True)
        ],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": []}],
        "title": NAME,
        "properties": {
            "proxyWidgets": [[str(item.node.id), item.name] for item in shown],
            "cnr_id": "lumina-next",
            "ver": versions["lumina-next"],
        },
        "widgets_values": [],
    }
