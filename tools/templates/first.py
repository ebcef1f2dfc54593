"""Templates for a beginning: one picture, the presets, several prompts at once."""

from __future__ import annotations

from . import parts
from .graph import Graph

PLAIN = "a red circle at the top left on a white background"
TWO = "a green ring at the bottom left and a pink cross at the top right on a gray background"


def text_to_image() -> Graph:
    graph = Graph("Text to image")
    prompt, size, sampler = parts.simple(graph, PLAIN)
    graph.app = [(prompt, "positive"), (size, "size"), (sampler, "seed")]
    parts.readme(
        graph,
        "**Press Run.** The small demo model comes with the pack: one or two plain shapes, "
        "128 × 128 px, nothing to download. Try:\n"
        "- *a blue star in the center on a black background*\n"
        f"- *{TWO}*\n\n"
        f"{parts.KNOWN}\n\n"
        "**For real pictures** open the template *Lumina-Next 13*: it says which files to get and "
        "where they go.",
    )
    return graph


def few_steps() -> Graph:
    graph = Graph("Few steps", after_run="fixed")  # one seed for all three
    clip = graph.add(
        "LuminaNextTextEncoderLoader",
        (0, 210),
        parts.size_of("LuminaNextTextEncoderLoader"),
        text_encoder_name=parts.DEMO,
    )
    graph.group("Text encoder", clip)
    # Beside the samplers, so that no link to them runs under the prompt.
    model = graph.add("LuminaNextModelLoader", (parts.LEFT, 0), (360, 120), model_name=parts.DEMO)
    graph.group("Model", model)
    encoded = parts.prompts(graph, clip, TWO, (parts.LEFT, 210))
    latent = parts.size(graph, 128, 128, (parts.LEFT, 640))
    left = parts.LEFT + encoded.extent[0] + parts.GAP
    inputs = model, encoded, encoded[1], latent
    samplers = {
        preset: parts.sampler(graph, (left, row * 430), inputs, {"preset": preset}, preset)
        for row, preset in enumerate(("Fast", "Balanced", "Best"))
    }
    graph.group("The same noise, three presets", *samplers.values())
    joined = graph.add(
        "BatchLatentsNode",
        (1330, 420),
        (230, 110),
        {f"latents.latent{row}": drawn for row, drawn in enumerate(samplers.values())},
    )
    parts.picture(graph, joined, parts.vae(graph, (1330, 860)), 1830)
    parts.readme(
        graph,
        "**How few steps are enough?** Three presets draw one prompt from the same noise.\n\n"
        "*Fast* calls the model 10 times, *Balanced* 20 times, *Best* 45 times, in a solver of "
        "third order. Time goes with the calls. The curve on each sampler shows the noise level "
        "at each step. *Save Image* shows the three in this order.\n\n"
        "To compare with another noise, set the same seed in all three.",
        (0, 430),
    )
    return graph


def prompt_per_line() -> Graph:
    graph = Graph("Prompt per line")
    lines = (
        "a red star in the center on a white background",
        "a blue ring in the center on a black background",
        "a green triangle at the top left on a gray background",
        TWO,
    )
    parts.simple(graph, "\n".join(lines), pictures=len(lines), text={"batch": True})
    parts.readme(
        graph,
        "**One run, a picture for each line** of the positive prompt.\n\n"
        "*batch* in Text Encode does it, among its advanced inputs. *batch_size* in Size is the "
        "number of lines.\n\n"
        "The negative prompt has one line for all pictures, or one for each.\n\n"
        "They are drawn at once, which takes more memory than one after the other.",
    )
    return graph


TEMPLATES = [text_to_image, few_steps, prompt_per_line]
