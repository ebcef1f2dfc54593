"""Templates about several prompts in one picture: a grid, and masks."""

from __future__ import annotations

from . import parts
from .graph import LIVE_PREVIEW, Graph, Node, Point
from .pictures import mask

CORNERS = (
    "a red circle at the top left on a white background",
    "a blue star at the top right on a white background",
    "a green square at the bottom left on a white background",
    "a purple ring at the bottom right on a white background",
)
REGION = (270, 300)


def grid() -> Graph:
    graph = Graph("Grid of prompts")
    model, clip = parts.loaders(graph)
    cells = graph.add(
        "LuminaNextGrid",
        (parts.LEFT, parts.BELOW_MODEL),
        (400, 330),
        clip=clip,
        prompts="\n".join(CORNERS),
        rows=2,
        columns=2,
    )
    graph.group("A prompt a line", cells)
    negative = text(graph, clip, "", (parts.LEFT, 530), "Negative")
    graph.group("What it should not show", negative)
    latent = parts.size(graph, 128, 128, (parts.LEFT, 770))
    parts.to_picture(graph, 880, (model, cells, negative[0], latent))
    parts.readme(
        graph,
        "**One prompt for each cell**, row by row from the top left: four lines for 2 rows and 2 "
        "columns. All are drawn in one pass a step.\n\n"
        "*global_prompt* is for the whole picture; left empty, it is the four joined. *feather* "
        "softens the borders.\n\n"
        "*Lumina-Next Plot Regions* shows where the cells are.",
    )
    return graph


def free_masks() -> Graph:
    graph = Graph("Regions by mask")
    model, clip = parts.loaders(graph)
    whole = "a blue square at the bottom left and a red star at the top right on a white background"
    encoded = parts.prompts(graph, clip, whole, width=400)
    first = text(graph, clip, CORNERS[2].replace("green", "blue"), (parts.LEFT, 560), "In the box")
    second = text(graph, clip, CORNERS[1].replace("blue", "red"), (parts.LEFT, 760), "In the mask")
    graph.group("Prompts of the regions", first, second)
    hole = mask(graph, (parts.LEFT, 1040))
    box = region(graph, (880, 560), "Box", prompt=first, x=0.0, y=0.5, width=0.5, height=0.5)
    free = region(graph, (1190, 640), "Mask", prompt=second, regions=box, mask=hole)
    graph.group("Regions", box, free)
    joined = graph.add(
        "LuminaNextRegions", (1500, 130), (250, 60), global_prompt=encoded, regions=free
    )
    graph.group("Joined", joined)
    latent = parts.size(graph, 128, 128, (1510, 640), wide=290)
    drawn = parts.sampler(graph, (1840, 0), (model, joined, encoded[1], latent))
    graph.group("Sampling", drawn, below=LIVE_PREVIEW)
    # Nearer to the sampler than elsewhere: a wider graph would open too small to read.
    parts.picture(graph, drawn, parts.vae(graph, (1840, 700)), 2315)
    parts.readme(
        graph,
        "**Each region has a prompt of its own**: one is a box, given in shares of the picture, "
        "the other the white part of a mask. Both are drawn in one pass a step; where no region "
        "is, and for the whole, the first prompt counts.\n\n"
        "**Your own mask:** *Load Image* has one that you paint with a right-click. Chain as many "
        "regions as you like.\n\n"
        "*Lumina-Next Plot Regions* shows where they are.",
    )
    return graph


def text(graph: Graph, clip: Node, prompt: str, place: Point, title: str) -> Node:
    return graph.add("CLIPTextEncode", place, (400, 140), title=title, clip=clip, text=prompt)


def region(graph: Graph, place: Point, title: str, **inputs: object) -> Node:
    return graph.add("LuminaNextRegion", place, REGION, inputs, title=title)


TEMPLATES = [grid, free_masks]
