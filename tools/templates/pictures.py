"""Templates that begin with a picture: image to image, inpainting, a second pass."""

from __future__ import annotations

from . import parts
from .graph import LIVE_PREVIEW, Graph, Node, Point

WHITE, RED, BLUE = 0xFFFFFF, 0xE02020, 0x2040E0


def sketch(graph: Graph, place: Point, color: int, side: int, at: Point) -> Node:
    """A square of one color on white paper, by ComfyUI's own nodes: the last of three."""
    left, top = place
    size = (230, 148)
    paper = graph.add("EmptyImage", place, size, title="Paper", width=128, height=128, color=WHITE)
    square = graph.add(
        "EmptyImage",
        (left, top + 190),
        size,
        title="Square",
        width=side,
        height=side,
        color=color,
    )
    composed = graph.add(
        "ImageCompositeMasked",
        (left + 290, top + 40),
        (230, 160),
        title="Square on paper",
        destination=paper,
        source=square,
        x=at[0],
        y=at[1],
    )
    graph.group("Sketch, or your own picture", paper, square, composed)
    return composed


def encode(graph: Graph, place: Point, pixels: Node, vae: Node) -> Node:
    return graph.add("VAEEncode", place, (160, 60), pixels=pixels, vae=vae)


def image_to_image() -> Graph:
    graph = Graph("Image to image")
    model, clip = parts.loaders(graph)
    encoded = parts.prompts(graph, clip, "a red star at the top left on a white background")
    drawing = sketch(graph, (0, 540), RED, 48, (16, 16))
    vae = parts.vae(graph, (90, 990))
    latent = encode(graph, (600, 580), drawing, vae)
    inputs = model, encoded, encoded[1], latent
    drawn = parts.sampler(graph, (830, 0), inputs, {"denoise": 0.6})
    graph.group("Sampling", drawn, below=LIVE_PREVIEW)
    parts.picture(graph, drawn, vae, 1330, decode_top=960)
    parts.readme(
        graph,
        "**A square becomes a star.** The sampler does not begin with noise alone but with the "
        "sketch, at *denoise* 0.6: lower keeps more of it (0.3 leaves the square), 1 nothing.\n\n"
        "**Your own picture:** put *Load Image* in place of the sketch. Its sides must be "
        "multiples of 16 px.",
        (830, 690),
        430,
    )
    return graph


def inpaint() -> Graph:
    graph = Graph("Inpaint")
    model, clip = parts.loaders(graph)
    prompt = (
        "a blue square at the bottom left and a red star at the top right on a white background"
    )
    encoded = parts.prompts(graph, clip, prompt, width=560)
    drawing = sketch(graph, (0, 540), BLUE, 44, (14, 70))
    vae = parts.vae(graph, (90, 1100))
    latent = encode(graph, (600, 540), drawing, vae)
    hole = mask(graph, (620, 730))
    masked = graph.add("SetLatentNoiseMask", (1110, 640), (230, 60), samples=latent, mask=hole)
    inputs = model, encoded, encoded[1], masked
    drawn = parts.sampler(graph, (1410, 0), inputs)
    graph.group("Sampling", drawn, below=LIVE_PREVIEW)
    parts.picture(graph, drawn, vae, 1910, decode_top=1090)
    parts.readme(
        graph,
        "**The star is new, the square stays.** Only where the mask is white is anything drawn. "
        "The prompt describes the whole picture.\n\n"
        "**Your own picture:** *Load Image* has both outputs, the picture for *VAE Encode* and "
        "the mask for *Set Latent Noise Mask*. Right-click it to paint the mask. Sides must be "
        "multiples of 16 px.",
        (1410, 700),
        430,
    )
    return graph


def mask(graph: Graph, place: Point) -> Node:
    """White at the top right, black elsewhere: the last of three nodes, in a group."""
    left, top = place
    size = (210, 120)
    black = graph.add("SolidMask", place, size, title="Black", value=0.0, width=128, height=128)
    white = graph.add(
        "SolidMask", (left, top + 170), size, title="White", value=1.0, width=72, height=64
    )
    both = graph.add(
        "MaskComposite",
        (left + 250, top + 40),
        (200, 140),
        title="White on black",
        destination=black,
        source=white,
        x=56,
        y=0,
        operation="add",
    )
    graph.group("Mask, or your own", black, white, both)
    return both


def two_pass() -> Graph:
    graph = Graph("Two-pass hires")
    model, clip = parts.loaders(graph)
    resolution = parts.Option("LuminaNextResolution", {"method": "auto", "trained_size": 128})
    model, _, bottom = parts.with_options(graph, model, [resolution])
    prompt = "a yellow circle in the center on a black background"
    encoded = parts.prompts(graph, clip, prompt, (parts.LEFT, bottom + 110))
    latent = parts.size(graph, 128, 128, (parts.LEFT, bottom + 540))
    first = parts.sampler(
        graph, (830, 470), (model, encoded, encoded[1], latent), title="First pass, small"
    )
    graph.group("128 × 128", first, below=LIVE_PREVIEW)
    larger = graph.add(
        "LatentUpscaleBy",
        (1330, 470),
        (220, 92),
        samples=first,
        upscale_method="bislerp",
        scale_by=2.0,
    )
    inputs = model, encoded, encoded[1], larger
    second = parts.sampler(graph, (1620, 0), inputs, {"denoise": 0.3}, "Second pass, large")
    graph.group("256 × 256", second, below=LIVE_PREVIEW)
    parts.picture(graph, second, parts.vae(graph, (1620, 700)), 2120)
    parts.readme(
        graph,
        "**Composition first, then detail.** The first pass draws at the size the model was "
        "trained at, the second goes over an enlarged latent.\n\n"
        "*denoise* of the second pass: 0.3 keeps the composition, above 0.5 it is drawn anew.\n\n"
        "*Resolution* serves both passes; at the trained size it does nothing. "
        "*trained_size* is 128 for the demo model, 1024 for Lumina-Next-SFT.",
    )
    return graph


TEMPLATES = [image_to_image, inpaint, two_pass]
