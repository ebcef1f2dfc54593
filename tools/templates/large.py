"""Templates for pictures larger than the model was trained for."""

from __future__ import annotations

from . import parts
from .graph import Graph
from .released import SFT

ONE = "a blue circle in the center on a black background"


def resolution(trained_size: int) -> parts.Option:
    return parts.Option("LuminaNextResolution", {"method": "auto", "trained_size": trained_size})


def large_picture() -> Graph:
    graph = Graph("Large picture")
    parts.simple(graph, ONE, 256, 256, options=[resolution(128)])
    parts.readme(
        graph,
        "**One circle, not four.** The picture has twice the sides that the demo model was trained "
        "at. *Resolution* stretches its position encoding with it. Switch it off to see the "
        "circle repeated: select it, Ctrl+B.\n\n"
        "*trained_size* is 128 for the demo model and 1024 for Lumina-Next-SFT. The picture on "
        "the node shows what is stretched, and how far.",
    )
    return graph


def panorama() -> Graph:
    graph = Graph("Panorama")
    prompt = (
        "A wide panorama of a mountain lake at sunrise, mist over the water, a wooden pier on the "
        "left, snowy peaks in the distance, photograph"
    )
    parts.simple(
        graph,
        prompt,
        2048,
        1024,
        files=SFT,
        options=[resolution(1024)],
        sampling={"preset": "As released"},
    )
    parts.readme(
        graph,
        "**Twice the trained area, in width.** Needs the three files of the template "
        "*Lumina-Next 13 - Lumina-Next-SFT 1024*, whose note says how to get them.\n\n"
        "*Resolution* keeps the scene from being repeated from left to right. *auto* chooses its "
        "method by the size; nothing else has to be set.\n\n"
        "Further: 4096 × 1024 in *Size*. Add *Lumina-Next Context Drop* for speed.",
    )
    return graph


def context_drop() -> Graph:
    graph = Graph("Context drop")
    drop = parts.Option("LuminaNextContextDrop", {"factor": 2, "until": 0.5})
    parts.simple(graph, ONE, 256, 256, options=[resolution(128), drop])
    parts.readme(
        graph,
        "**Faster large pictures.** Until half of the way, while the picture is mostly noise, "
        "attention reads averages of 2 × 2 tokens.\n\n"
        "It pays from 2048 × 2048 px on, with the released model. On this small picture it "
        "only shows that the result stays the same in kind.\n\n"
        "Higher *until* and *factor* save more and blur more.",
    )
    return graph


TEMPLATES = [large_picture, panorama, context_drop]
