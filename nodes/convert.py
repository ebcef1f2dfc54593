"""A node that packs a text encoder's folder into one file."""

from comfy_api.latest import io

from ..host.checkpoints import packing
from ..lumina.checkpoints.convert.pack import DTYPES
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
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    advanced=True,
                    tooltip="Replaces a file of that name. Off: a different file of that name is "
                    "an error.",
                ),
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


NODES = [PackTextEncoder]
