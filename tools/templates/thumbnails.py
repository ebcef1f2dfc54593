"""The pictures of the templates: what a graph draws or, where it needs other models, the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from .graph import TITLE, Graph, Node, Output
from .saving import frame

SIDE = 384  # px
MARGIN = 8
BACKGROUND, GROUP, BODY, BAR, TEXT, LINK = (
    (26, 26, 26),
    (35, 52, 64),
    (54, 54, 54),
    (82, 82, 82),
    (220, 220, 220),
    (154, 138, 214),
)


def of_pictures(pictures: Sequence[Image.Image]) -> Image.Image:
    """SIDE x SIDE, with all of them beside and below each other, each whole."""
    columns = math.ceil(math.sqrt(len(pictures)))
    cell = SIDE // columns
    sheet = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    rows = math.ceil(len(pictures) / columns)
    top = (SIDE - rows * cell) // 2
    for index, picture in enumerate(pictures):
        scale = cell / max(picture.size)
        width, height = (round(side * scale) for side in picture.size)
        small = picture.resize((width, height), Image.Resampling.LANCZOS)
        row, column = divmod(index, columns)
        corner = (column * cell + (cell - width) // 2, top + row * cell + (cell - height) // 2)
        sheet.paste(small, corner)
    return sheet


def of_graph(graph: Graph) -> Image.Image:
    """SIDE x SIDE: groups, nodes and links as the editor places them."""
    left, top, width, height = frame(graph)
    scale = (SIDE - 2 * MARGIN) / max(width, height)
    shift = ((SIDE - width * scale) / 2 - left * scale, (SIDE - height * scale) / 2 - top * scale)

    def box(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        x, y = x * scale + shift[0], y * scale + shift[1]
        return x, y, x + w * scale, y + h * scale

    large = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    pen = ImageDraw.Draw(large)
    for group in graph.groups:
        pen.rectangle(box(*group.box), fill=GROUP)
    for node in graph.nodes:
        for slot, output in enumerate(node.links.values()):
            ends = box(*socket(output), 0, 0)[:2], box(*entry(node, slot), 0, 0)[:2]
            pen.line(ends, fill=LINK, width=1)
    for node in graph.nodes:
        (x, y), (w, h) = node.place, node.extent
        pen.rectangle(box(x, y - TITLE, w, h + TITLE), fill=BODY)
        pen.rectangle(box(x, y - TITLE, w, TITLE), fill=BAR)
    pen.text((MARGIN, MARGIN), graph.name, fill=TEXT, font_size=26)
    return large


def socket(output: Output) -> tuple[int, int]:
    return output.node.place[0] + output.node.extent[0], output.node.place[
        1
    ] + 14 + 20 * output.slot


def entry(node: Node, slot: int) -> tuple[int, int]:
    return node.place[0], node.place[1] + 14 + 20 * slot
