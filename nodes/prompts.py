"""Prompts to CONDITIONING: positive and negative in one node, with templates, cleaning and batches.

At its defaults the node equals two "CLIP Text Encode", to the bit: Lumina-Next was trained on
captions as they are. Template and cleaning are off by default, and change only the positive prompt,
as in diffusers.
"""

from comfy_api.latest import io

from ..host.prompts import encoding
from ..lumina.prompts.cleaning import CLEANING, OFF
from ..lumina.prompts.templates import CHOICES, CUSTOM, PLACEHOLDER
from .library import ALIASES, CATEGORY


class TextEncode(io.ComfyNode):
    """Lumina-Next Text Encode: positive and negative prompt as CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextTextEncode",
            display_name="Lumina-Next Text Encode",
            category=CATEGORY,
            description="Encodes the positive and the negative prompt, and shows how many tokens "
            "they have. Weights work as in every prompt: (red:1.3). Further settings: templates, "
            "cleaning of text from the web, and a prompt for each picture of a batch.",
            search_aliases=[
                *ALIASES,
                "clip text encode",
                "prompt",
                "negative prompt",
                "system prompt",
                "clean caption",
                "batch prompts",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip='From "Load Lumina-Next Text Encoder".'),
                io.String.Input(
                    "positive",
                    multiline=True,
                    placeholder="What the picture should show",
                    dynamic_prompts=True,
                    tooltip="What the picture should show. Lumina-Next reads 256 tokens, about "
                    "200 words; what was cut off is shown on the node.",
                ),
                io.String.Input(
                    "negative",
                    multiline=True,
                    placeholder="What it should not show; best left empty at first",
                    dynamic_prompts=True,
                    tooltip="What it should not show. Empty is what the model was trained with, "
                    "and a good start. Template and cleaning do not change it.",
                ),
                _template_input(),
                io.Combo.Input(
                    "cleaning",
                    options=list(CLEANING),
                    default=OFF,
                    advanced=True,
                    tooltip="Takes web addresses, HTML, file names, product codes and odd "
                    "punctuation out of the positive prompt and writes it in lower case, as "
                    "diffusers does. Latin text: only prompts without letters of another script.",
                ),
                io.Boolean.Input(
                    "batch",
                    default=False,
                    advanced=True,
                    tooltip="On: each line of the positive prompt is the prompt of one picture of "
                    "a batch, in order. Give the latent as many pictures. The negative prompt "
                    "has one line for all pictures, or one for each.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="What to show, for the sampler's positive."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="What to avoid, for the sampler's negative."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip: object,
        positive: str,
        negative: str,
        cleaning: str,
        batch: bool,
        template: io.DynamicCombo.Type | None = None,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            *encoding.encode(
                clip, positive, negative, template=template, cleaning=cleaning, is_batch=batch
            )
        )


def _template_input() -> io.DynamicCombo.Input:
    inputs = {CUSTOM: [_text_input()]}
    return io.DynamicCombo.Input(
        "template",
        options=[io.DynamicCombo.Option(name, inputs.get(name, [])) for name in CHOICES],
        tooltip="A text around the positive prompt. none: nothing, as Lumina-Next was "
        "trained. superior, alignment: the system prompts of Lumina-Image 2.0, for models "
        "fine-tuned with one. custom: your own text.",
        extra_dict={"advanced": True},  # DynamicCombo has no parameter for it
    )


def _text_input() -> io.String.Input:
    return io.String.Input(
        "text",
        multiline=True,
        default=PLACEHOLDER,
        tooltip=f"{PLACEHOLDER} is replaced by the prompt, as in: An oil painting of "
        f"{PLACEHOLDER}, (muted colors:1.2).",
    )


NODES = [TextEncode]
