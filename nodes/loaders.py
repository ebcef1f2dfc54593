"""Nodes that load files as MODEL and CLIP, and report a bad file before anything runs."""

from comfy_api.latest import io

from ..host import validation
from ..host.checkpoints import folders
from ..host.checkpoints.folders import LORAS, MODELS, TEXT_ENCODERS
from ..host.model import loading, lora
from ..host.text_encoders import loading as text_encoders_loading
from ..lumina.checkpoints.lora_names import STRENGTH
from .inputs import number_input
from .library import ALIASES, CATEGORY


class ModelLoader(io.ComfyNode):
    """Load Lumina-Next Model: a Next-DiT or Flag-DiT checkpoint as MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextModelLoader",
            display_name="Load Lumina-Next Model",
            category=CATEGORY,
            description="Loads a text-to-image model of the Lumina-T2X family as MODEL, for "
            "KSampler and every other sampler: Lumina-Next (Next-DiT) or Lumina-T2I 5B "
            "(Flag-DiT). Takes the released files, diffusers' files and folders, and fp8 files, "
            "and detects which it is.",
            search_aliases=[
                *ALIASES,
                "lumina-next-sft",
                "next-dit",
                "nextdit",
                "lumina-t2i",
                "flag-dit",
                "load diffusion model",
                "unet loader",
            ],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=folders.names(MODELS),
                    display_name="model",
                    tooltip="A file or folder in models/diffusion_models, or a pipeline in "
                    "models/diffusers. Press R after adding one.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(loading.WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="How weights are stored in memory. default: as suits the file and the "
                    "graphics card. fp8 halves the memory and loses a little detail; "
                    "fp8_e4m3fn_fast also computes in fp8, on cards that can. bf16 also computes "
                    "in bfloat16 where ComfyUI would not, as on a processor: twice as fast on "
                    "those that have units for it, slower on others.",
                ),
                io.Combo.Input(
                    "latent_format",
                    options=list(loading.LATENT_FORMATS),
                    default="SDXL",
                    advanced=True,
                    tooltip="Whose VAE the model was trained with. SDXL for the released "
                    "Lumina-Next and Lumina-T2I models; a wrong choice gives wrong colors and "
                    "contrast.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The model. Guidance acts on 3 of its 4 latent channels, as in the "
                    "released code."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str | None = None) -> bool | str:
        return _validate(MODELS, model_name)

    @classmethod
    def fingerprint_inputs(cls, model_name: str | None = None, **kwargs: object) -> object:
        return _fingerprint(MODELS, model_name)

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str, latent_format: str) -> io.NodeOutput:
        return io.NodeOutput(loading.load_model(model_name, weight_dtype, latent_format))


class TextEncoderLoader(io.ComfyNode):
    """Load Lumina-Next Text Encoder: a language model with its tokenizer as CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextTextEncoderLoader",
            display_name="Load Lumina-Next Text Encoder",
            category=CATEGORY,
            description="Loads Gemma-2B (the first Gemma), Lumina-Next's text encoder, as CLIP, "
            'for "CLIP Text Encode"; LLaMA-2-7B for Lumina-T2I 5B; or T5 or another language '
            "model, for models trained with it. Takes one file with the tokenizer inside or next "
            "to it, or a Hugging Face folder, and detects which model it is. Gemma reads up to 256 "
            "tokens of a prompt.",
            search_aliases=[
                *ALIASES,
                "gemma",
                "gemma-2b",
                "llama 2",
                "t5",
                "t5xxl",
                "text encoder",
                "clip loader",
                "load clip",
            ],
            inputs=[
                io.Combo.Input(
                    "text_encoder_name",
                    options=folders.names(TEXT_ENCODERS),
                    display_name="text encoder",
                    tooltip="A file or folder in models/text_encoders, or a pipeline in "
                    "models/diffusers. Press R after adding one.",
                ),
                io.Combo.Input(
                    "device",
                    options=list(text_encoders_loading.DEVICES),
                    default="default",
                    advanced=True,
                    tooltip="Where prompts are encoded. cpu leaves the graphics card's memory to "
                    "the model and takes seconds longer for each new prompt.",
                ),
            ],
            outputs=[io.Clip.Output(tooltip='Connect it to "CLIP Text Encode".')],
        )

    @classmethod
    def validate_inputs(cls, text_encoder_name: str | None = None) -> bool | str:
        return _validate(TEXT_ENCODERS, text_encoder_name)

    @classmethod
    def fingerprint_inputs(cls, text_encoder_name: str | None = None, **kwargs: object) -> object:
        return _fingerprint(TEXT_ENCODERS, text_encoder_name)

    @classmethod
    def execute(cls, text_encoder_name: str, device: str) -> io.NodeOutput:
        return io.NodeOutput(text_encoders_loading.load_text_encoder(text_encoder_name, device))


class LoraLoader(io.ComfyNode):
    """Load Lumina-Next LoRA: what a LoRA file changes, on a MODEL of this pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextLoraLoader",
            display_name="Load Lumina-Next LoRA",
            category=CATEGORY,
            description="Applies a LoRA that was trained on Lumina-Next in any trainer: with names "
            "of the released code or of diffusers, as kohya, PEFT and LyCORIS write them. Says how "
            "many weights it changes, and refuses LoRAs of other models.",
            search_aliases=[
                *ALIASES,
                "lora",
                "load lora",
                "lora loader",
                "lycoris",
                "lokr",
                "peft",
                "adapter",
            ],
            inputs=[
                io.Model.Input("model", tooltip='From "Load Lumina-Next Model".'),
                io.Combo.Input(
                    "lora_name",
                    options=folders.names(LORAS),
                    display_name="lora",
                    tooltip="A file in models/loras. Press R after adding one.",
                ),
                number_input("strength", STRENGTH),
            ],
            outputs=[io.Model.Output(tooltip="The model with this LoRA. Several add up.")],
        )

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None) -> bool | str:
        return _validate(LORAS, lora_name)

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, **kwargs: object) -> object:
        return _fingerprint(LORAS, lora_name)

    @classmethod
    def execute(cls, model: object, lora_name: str, strength: float) -> io.NodeOutput:
        return io.NodeOutput(lora.with_lora(model, lora_name, strength))


def _validate(kind: folders.ModelKind, name: str | None) -> bool | str:
    # None: the name comes over a link and is not known yet. A node that checks a name turns off the
    # host's check against the list, so `explain_unusable` also reports a name that is not listed.
    if name is None:
        return True
    return validation.explain_unusable(kind, name) or True


def _fingerprint(kind: folders.ModelKind, name: str | None) -> object:
    return None if name is None else folders.locate(kind, name).state()


NODES = [ModelLoader, TextEncoderLoader, LoraLoader]
