"""How strongly the prompt is followed: on which channels, when, and within which bounds."""

from comfy_api.latest import io

from ...host.options.guidance import with_guidance
from ...lumina.options.guidance import CHANNELS, PARAMETERS, Guidance
from ..inputs import number_input
from ..library import ALIASES, CATEGORY


class GuidanceNode(io.ComfyNode):
    """Lumina-Next Guidance: what cfg acts on, and bounds for it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextGuidance",
            display_name="Lumina-Next Guidance",
            category=CATEGORY,
            description="Refines classifier-free guidance (cfg): which latent channels it acts "
            "on, between which noise levels, and how strong it may become. The strength itself "
            "is the sampler's cfg. At its defaults it changes nothing.",
            search_aliases=[*ALIASES, "cfg", "renorm", "rescale", "cfg zero"],
            inputs=[
                io.Model.Input("model", tooltip='From "Load Lumina-Next Model".'),
                io.Combo.Input(
                    "channels",
                    options=list(CHANNELS),
                    default=Guidance().channels,
                    tooltip="released: the first 3 of the 4 latent channels, as the released code "
                    "does. all: every channel, a little stronger.",
                ),
                *[number_input(name, item) for name, item in PARAMETERS.items()],
            ],
            outputs=[io.Model.Output(tooltip="The model with this guidance.")],
        )

    @classmethod
    def execute(
        cls,
        model: object,
        channels: str,
        start: float,
        end: float,
        renorm: float,
        rescale: float,
        zero_steps: int,
    ) -> io.NodeOutput:
        rules = Guidance(channels, start, end, renorm, rescale, zero_steps)
        return io.NodeOutput(with_guidance(model, rules))


NODES = [GuidanceNode]
