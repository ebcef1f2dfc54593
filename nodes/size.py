"""The size of a new picture, by what the models were trained at."""

from comfy_api.latest import io

from ..host import latents
from ..lumina.picture_sizes import BATCH_SIZE, DEMO, SIDE, SIZES
from .inputs import choice_input, number_input
from .library import ALIASES, CATEGORY


class Size(io.ComfyNode):
    """Lumina-Next Size: an empty latent of a trained size, or of one beyond it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextSize",
            display_name="Lumina-Next Size",
            category=CATEGORY,
            description="The size of a new picture: an empty latent of one of the sizes that "
            "Lumina-Next was trained at, or of a larger one. After a run it shows the megapixels "
            "and how far they are beyond the training.",
            search_aliases=[
                *ALIASES,
                "empty latent image",
                "resolution",
                "aspect ratio",
                "width height",
                "panorama",
                "portrait",
            ],
            inputs=[_size_input(), number_input("batch_size", BATCH_SIZE)],
            outputs=[
                io.Latent.Output(tooltip="An empty latent of that size, for the sampler."),
                io.Int.Output(display_name="width", tooltip="In pixels."),
                io.Int.Output(display_name="height", tooltip="In pixels."),
            ],
        )

    @classmethod
    def execute(cls, batch_size: int, size: io.DynamicCombo.Type | None = None) -> io.NodeOutput:
        return io.NodeOutput(*latents.empty_latent(size, batch_size))


def _size_input() -> io.DynamicCombo.Input:
    labels = {name: f"{name}: {size.summary}" for name, size in SIZES.items()}
    labels |= {name: f"{name}: the demo model" for name in DEMO}
    custom = [number_input(name, parameter) for name, parameter in SIDE.items()]
    return choice_input(
        "size",
        {**{name: [] for name in SIZES}, latents.CUSTOM: custom},
        "Width and height in pixels. Sizes with more than the trained area need "
        '"Lumina-Next Resolution", and time. Custom: your own, in multiples of 16.',
        labels=labels,
    )


NODES = [Size]
