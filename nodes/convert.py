"""Nodes that write model files: a text encoder's folder as one file, a model in fewer bits."""

from comfy_api.latest import io

from ..host.checkpoints import packing, quantizing
from ..lumina.checkpoints.convert.formats import FORMATS
from ..lumina.checkpoints.convert.pack import DTYPES
from .inputs import listed
from .library import ALIASES, CATEGORY


class PackTextEncoder(io.ComfyNode):
    """Lumina-Next Pack Text Encoder: a Hugging Face folder as one safetensors file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextPackTextEncoder",
            display_name="Lumina-Next Pack Text Encoder",
            category=CATEGORY,
            description="Turns a text encoder that is a Hugging Face folder into one file in "
            "models/text_encoders, with the tokenizer and the config inside. Run it once; the "
            "folder is not needed after that. Takes little memory, whatever the size.",
            search_aliases=[
                *ALIASES,
                "gemma",
                "convert",
                "merge shards",
                "save text encoder",
                "clip save",
                "fp8",
            ],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=packing.folders(),
                    tooltip="A Hugging Face folder in models/text_encoders, or a pipeline in "
                    "models/diffusers. Press R after adding one.",
                ),
                io.String.Input(
                    "file_name",
                    default="",
                    placeholder="as the folder",
                    tooltip="Name of the file in models/text_encoders. Empty: the folder's name "
                    "with .safetensors.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    default="keep",
                    tooltip="How the numbers are stored. keep: as they are. bfloat16 and float16 "
                    "take 2 bytes each, float8_e4m3fn takes 1 and loses some detail.",
                ),
                _overwrite_input(),
            ],
            outputs=[
                io.String.Output(
                    display_name="name",
                    tooltip='The file as "Load Lumina-Next Text Encoder" lists it.',
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        # None: the folder comes over a link and is not known yet.
        return (folder is not None and packing.explain_unpackable(folder)) or True

    @classmethod
    def fingerprint_inputs(
        cls, folder: str | None = None, file_name: str | None = None, **kwargs: object
    ) -> object:
        if folder is None or file_name is None:
            return float("nan")
        return packing.state(folder, file_name)

    @classmethod
    def execute(cls, folder: str, file_name: str, dtype: str, overwrite: bool) -> io.NodeOutput:
        return io.NodeOutput(packing.pack_text_encoder(folder, file_name, dtype, overwrite))


class Quantize(io.ComfyNode):
    """Lumina-Next Quantize: a model or a packed text encoder in fewer bits, as a new file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextQuantize",
            display_name="Lumina-Next Quantize",
            category=CATEGORY,
            description="Writes a model, or a text encoder that is one file, in 8 or 4 bits, as a "
            "new file beside it. It then takes half the memory or less. Run it once. Takes little "
            "memory itself, whatever the size.",
            search_aliases=[*ALIASES, "convert", "fp8", "int8", "nvfp4", "scaled", "smaller"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "source",
                    options=quantizing.sources(),
                    tooltip="A model in models/diffusion_models, or a text encoder of one file in "
                    "models/text_encoders, not quantized yet. Press R after adding one.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="fp8",
                    tooltip=listed({name: known.meaning for name, known in FORMATS.items()}),
                ),
                io.String.Input(
                    "file_name",
                    default="",
                    placeholder="as the source, with the format",
                    tooltip="Name of the new file, in the folder of the source's kind. Empty: the "
                    "source's name and the format, such as gemma-2b-fp8.safetensors.",
                ),
                _overwrite_input(),
            ],
            outputs=[
                io.String.Output(display_name="name", tooltip="The file as the loader lists it.")
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls,
        source: str | None = None,
        format: str | None = None,
        file_name: str | None = None,
        **kwargs: object,
    ) -> object:
        if source is None or format is None or file_name is None:
            return float("nan")
        return quantizing.state(source, format, file_name)

    @classmethod
    def execute(cls, source: str, format: str, file_name: str, overwrite: bool) -> io.NodeOutput:
        return io.NodeOutput(quantizing.quantize_model(source, format, file_name, overwrite))


def _overwrite_input() -> io.Boolean.Input:
    return io.Boolean.Input(
        "overwrite",
        default=False,
        advanced=True,
        tooltip="Replaces a file of that name. Off: a different file of that name is an error.",
    )


NODES = [PackTextEncoder, Quantize]
