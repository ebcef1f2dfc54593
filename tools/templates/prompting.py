"""Templates about what is drawn: LoRA, areas, a language model that writes the prompt."""

from __future__ import annotations

from . import parts
from .first import PLAIN
from .graph import Graph


def lora() -> Graph:
    graph = Graph("LoRA")
    loader = parts.Option(
        "LuminaNextLoraLoader",
        {"lora_name": "your-lora.safetensors", "strength": 1.0},
        is_bypassed=True,
    )
    parts.simple(graph, PLAIN, options=[loader])
    parts.readme(
        graph,
        "**The LoRA is switched off**, since none comes with the pack. The graph runs without "
        "it.\n\n"
        "**To use one:** put it into models/loras, press **R**, choose it in *Load Lumina-Next "
        "LoRA*, then select the node and press Ctrl+B. The node says what of it fits the model; "
        "those for Lumina-Image 2.0 do not.\n\n"
        "*strength* 1 is as trained, 0 is off.",
    )
    return graph


def areas() -> Graph:
    graph = Graph("Areas")
    model, clip = parts.loaders(graph)
    halves = []
    for row, (title, prompt) in enumerate(
        (
            ("Left", "a red star in the center on a black background"),
            ("Right", "a blue ring in the center on a black background"),
        )
    ):
        encoded = graph.add(
            "LuminaNextTextEncode",
            (parts.LEFT, parts.BELOW_MODEL + row * 660),
            parts.size_of("LuminaNextTextEncode"),
            title=title,
            clip=clip,
            positive=prompt,
        )
        halves.append(encoded)
    graph.group("Prompts", *halves)
    latent = parts.size(graph, 256, 128, (830, 920))
    placed = [
        graph.add(
            "ConditioningSetArea",
            (830, parts.BELOW_MODEL + row * 210),
            (260, 176),
            title=f"{half.title} half",
            conditioning=half,
            width=128,
            height=128,
            x=128 * row,
            y=0,
            strength=1.0,
        )
        for row, half in enumerate(halves)
    ]
    both = graph.add(
        "ConditioningCombine",
        (1150, parts.BELOW_MODEL),
        (230, 60),
        conditioning_1=placed[0],
        conditioning_2=placed[1],
    )
    graph.group("Areas", *placed, both)
    parts.to_picture(graph, 1630, (model, both, halves[1][1], latent))
    parts.readme(
        graph,
        "**A prompt for each half** of a picture of 256 × 128 px. Each is drawn as a picture of "
        "its own, and where areas overlap they are mixed.\n\n"
        "*Set Area* counts in pixels, in steps of 16. Areas must cover the whole picture, or "
        "combine them with a prompt that has none.\n\n"
        "One negative prompt is enough, here that of the right half.",
    )
    return graph


def prompt_enhancer() -> Graph:
    graph = Graph("Prompt enhancer")
    model, clip = parts.loaders(graph)
    few_words = graph.add(
        "PrimitiveStringMultiline",
        (parts.LEFT, 420),
        (360, 160),
        title="Few words",
        value="a blue star in the center on a black background",
    )
    graph.group("Your prompt", few_words)
    written = graph.add(
        "TextGenerate",
        (830, 290),
        (360, 490),
        is_bypassed=True,
        clip=clip,
        prompt=few_words,
        max_length=200,
        sampling_mode="on",
        thinking=False,
        use_default_template=True,
    )
    graph.group("Off until there is a language model", written)
    encoded = parts.prompts(graph, clip, written, (1260, parts.BELOW_MODEL))
    latent = parts.size(graph, 128, 128, (1260, 530))
    shown = graph.add(
        "PreviewAny", (1260, 790), (360, 170), title="The prompt as it was written", source=written
    )
    graph.group("What was written", shown)
    parts.to_picture(graph, 1690, (model, encoded, encoded[1], latent))
    parts.readme(
        graph,
        "**Generate Text makes a long caption of a few words**, as Lumina-Next was trained on. "
        "The text encoder writes it: Gemma-2B is a language model.\n\n"
        "**It is switched off**: the demo text encoder cannot write, and your prompt passes "
        "through as it is. The graph runs.\n\n"
        "**To switch it on** get the files of the template *Lumina-Next 13*, choose them in the "
        "loaders, set 1024 × 1024, then select *Generate Text* and press Ctrl+B.\n\n"
        "Lumina-Next reads 256 tokens, so *max_length* is 200.",
    )
    return graph


TEMPLATES = [lora, areas, prompt_enhancer]
