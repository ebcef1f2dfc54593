"""What most graphs have: loaders, prompt, size, sampler and picture, in columns from left to right.

The link of the model runs above the prompt, that of the VAE below the sampler, so none runs under a
node or over another link.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .graph import LIVE_PREVIEW, Graph, Node, Output, Point

DEMO = "lumina-next-demo.safetensors"
KNOWN = (
    "It knows circle, square, triangle, star, cross and ring, in red, green, blue, yellow, purple, "
    "orange, cyan and pink, in the center and the corners, on white, black and gray."
)
LEFT, GAP = 400, 70  # of the column after the loaders; between columns
BELOW_MODEL = 100  # top of what stands below the model's link
WIDTH = {
    "VAEDecode": 225,
    "LuminaNextTextEncode": 360,
    "LuminaNextSize": 360,
    "LuminaNextSampler": 430,
    "SaveImage": 340,
}
LOADER_WIDTH = 330
HEIGHT = {
    "LuminaNextModelLoader": 120,
    "LuminaNextTextEncoderLoader": 112,
    "VAELoader": 62,
    "LuminaNextTextEncode": 340,
    "LuminaNextSize": 160,
    "LuminaNextSampler": 372,
    "LuminaNextResolution": 290,
    "LuminaNextContextDrop": 140,
    "LuminaNextLoraLoader": 92,
    "VAEDecode": 60,
    "VAEEncode": 60,
    "SaveImage": 400,
}


@dataclass(frozen=True)
class Files:
    """What the loaders choose. downloads: what the editor offers to download, by file name."""

    model: str = DEMO
    text_encoder: str = DEMO
    vae: str = DEMO
    downloads: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def offered(self, name: str) -> list[Mapping[str, str]]:
        return [self.downloads[name]] if name in self.downloads else []


DEMO_FILES = Files()


@dataclass(frozen=True)
class Option:
    """A node between the loader and the sampler that sets something on the model."""

    type: str
    values: Mapping[str, object] = field(default_factory=dict)
    is_bypassed: bool = False


def size_of(kind: str) -> Point:
    return WIDTH.get(kind, LOADER_WIDTH), HEIGHT[kind]


def loaders(graph: Graph, files: Files = DEMO_FILES) -> tuple[Node, Node]:
    """The model and the text encoder, in a group."""
    model = graph.add(
        "LuminaNextModelLoader",
        (0, 0),
        size_of("LuminaNextModelLoader"),
        downloads=files.offered(files.model),
        model_name=files.model,
    )
    clip = graph.add(
        "LuminaNextTextEncoderLoader",
        (0, 170),
        size_of("LuminaNextTextEncoderLoader"),
        downloads=files.offered(files.text_encoder),
        text_encoder_name=files.text_encoder,
    )
    graph.group("Models", model, clip)
    return model, clip


def with_options(graph: Graph, model: Node, options: Sequence[Option]) -> tuple[Node, int, int]:
    """The last of a row of options, where the row ends on the right, and its lower edge."""
    left, bottom, nodes = LEFT, 0, []
    for option in options:
        model = graph.add(
            option.type,
            (left, 0),
            size_of(option.type),
            option.values,
            is_bypassed=option.is_bypassed,
            model=model,
        )
        nodes.append(model)
        left, bottom = left + LOADER_WIDTH + GAP, max(bottom, HEIGHT[option.type])
    if nodes:
        graph.group("On the model", *nodes)
    return model, left - GAP, bottom


def prompts(
    graph: Graph,
    clip: Node,
    positive: object,
    place: Point = (LEFT, BELOW_MODEL),
    width: int = WIDTH["LuminaNextTextEncode"],
    settings: Mapping[str, object] | None = None,
) -> Node:
    """Text Encode, in a group."""
    size = (width, HEIGHT["LuminaNextTextEncode"])
    node = graph.add("LuminaNextTextEncode", place, size, settings, clip=clip, positive=positive)
    graph.group("Prompt", node)
    return node


def size(
    graph: Graph, width: int, height: int, place: Point, pictures: int = 1, wide: int = 360
) -> Node:
    """Size, in a group. Other sizes than those of its list are Custom."""
    listed = {(128, 128), (1024, 1024), (2048, 1024)}
    chosen: dict[str, object] = {"size": f"{width} x {height}"}
    if (width, height) not in listed:
        chosen = {"size": "Custom", "size.width": width, "size.height": height}
    tall = HEIGHT["LuminaNextSize"] + 28 * (len(chosen) - 1)
    node = graph.add("LuminaNextSize", place, (wide, tall), chosen, batch_size=pictures)
    graph.group("Size", node)
    return node


def sampler(
    graph: Graph,
    place: Point,
    inputs: tuple[Node, Node | Output, Output, Node],
    settings: Mapping[str, object] | None = None,
    title: str = "",
) -> Node:
    """The sampler, without a group. inputs: model, positive, negative and latent."""
    model, positive, negative, latent = inputs
    chosen = {"seed": 1, "preset": "Balanced", "cfg": 4.0, "denoise": 1.0, **(settings or {})}
    return graph.add(
        "LuminaNextSampler",
        place,
        size_of("LuminaNextSampler"),
        chosen,
        title=title,
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent,
    )


def vae(graph: Graph, place: Point, files: Files = DEMO_FILES) -> Node:
    """The VAE, in a group."""
    node = graph.add(
        "VAELoader",
        place,
        (WIDTH["LuminaNextSampler"], HEIGHT["VAELoader"]),
        downloads=files.offered(files.vae),
        vae_name=files.vae,
    )
    graph.group("VAE", node)
    return node


def picture(graph: Graph, latent: Node, vae: Node, left: int, *, decode_top: int = 0) -> Node:
    """Decode and save, in a group. decode_top: below what the VAE's link must not run under."""
    decoded = graph.add(
        "VAEDecode", (left, decode_top), size_of("VAEDecode"), samples=latent, vae=vae
    )
    saved = graph.add(
        "SaveImage",
        (left + WIDTH["VAEDecode"] + GAP, 0),
        size_of("SaveImage"),
        images=decoded,
        filename_prefix="lumina-next",
    )
    graph.group("Picture", decoded, saved)
    return saved


def to_picture(
    graph: Graph,
    left: int,
    inputs: tuple[Node, Node | Output, Output, Node],
    settings: Mapping[str, object] | None = None,
    files: Files = DEMO_FILES,
) -> Node:
    """Sampler, VAE and picture, each in a group, from `left` on: the sampler."""
    drawn = sampler(graph, (left, 0), inputs, settings)
    graph.group("Sampling", drawn, below=LIVE_PREVIEW)
    picture(graph, drawn, vae(graph, (left, 700), files), left + drawn.extent[0] + GAP)
    return drawn


def simple(
    graph: Graph,
    prompt: str,
    width: int = 128,
    height: int = 128,
    *,
    pictures: int = 1,
    files: Files = DEMO_FILES,
    options: Sequence[Option] = (),
    text: Mapping[str, object] | None = None,
    sampling: Mapping[str, object] | None = None,
) -> tuple[Node, Node, Node]:
    """Text to image whole: its prompt, size and sampler."""
    model, clip = loaders(graph, files)
    model, right, bottom = with_options(graph, model, options)
    wide = max(WIDTH["LuminaNextTextEncode"], right - LEFT)
    top = bottom + 110 if options else BELOW_MODEL
    encoded = prompts(graph, clip, prompt, (LEFT, top), wide, text)
    latent = size(graph, width, height, (LEFT, top + encoded.extent[1] + 90), pictures, wide)
    left = LEFT + wide + GAP
    drawn = to_picture(graph, left, (model, encoded, encoded[1], latent), sampling, files)
    return encoded, latent, drawn


def readme(graph: Graph, text: str, place: Point = (0, 370), width: int = LOADER_WIDTH) -> Node:
    """A note, under the loaders if nothing else is said, as high as its text needs."""
    letters = width / 7  # in a line of Nodes 2.0, whose letters are the larger ones
    paragraphs = text.split("\n")
    lines = sum(math.ceil(len(paragraph) / letters) for paragraph in paragraphs)
    return graph.note(place, (width, 70 + 17 * lines + 8 * len(paragraphs)), text)
