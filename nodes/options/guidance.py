"""How strongly the prompt is followed: on which channels, when, and within which bounds."""

from comfy_api.latest import io

from ...host.options import guidance
from ...lumina.options.guidance import RELEASED_CHANNELS

CHANNELS = {"released": RELEASED_CHANNELS, "all": None}


class Guidance(io.ComfyNode):
    """Lumina-Next Guidance: what cfg acts on, and bounds for it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextGuidance",
            display_name="Lumina-Next Guidance",
            category="model/patch",
            description="Refines classifier-free guidance (cfg): which latent channels it acts "
            "on, between which noise levels, and how strong it may become. The strength itself "
            "is the sampler's cfg. At its defaults it changes nothing.",
            search_aliases=["lumina", "lumina next", "cfg", "renorm", "rescale", "cfg zero"],
            inputs=[
                io.Model.Input("model", tooltip='From "Load Lumina-Next Model".'),
                io.Combo.Input(
                    "channels",
                    options=list(CHANNELS),
                    default="released",
                    tooltip="released: the first 3 of the 4 latent channels, as the released code "
                    "does. all: every channel, a little stronger.",
                ),
                _sigma("start", 1.0, "from which cfg acts. Lower leaves the layout freer."),
                _sigma("end", 0.0, "down to which cfg acts. Higher leaves details softer."),
                _amount(
                    "renorm",
                    10.0,
                    "Longest guided step, in lengths of the prompt's own. 1 tames hard colors "
                    "most, higher less; 0 is off.",
                ),
                _amount(
                    "rescale",
                    1.0,
                    "Share of the contrast that guidance added to take back. Higher gives softer "
                    "colors; 0 is off.",
                ),
                io.Int.Input(
                    "zero_steps",
                    default=0,
                    min=0,
                    max=10,
                    advanced=True,
                    tooltip="First steps that leave the noise as it is, where the model's first "
                    "guess does more harm than good.",
                ),
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
        rules = guidance.Guidance(CHANNELS[channels], start, end, renorm, rescale, zero_steps)
        return io.NodeOutput(guidance.with_guidance(model, rules))


def _sigma(name: str, default: float, meaning: str) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=1.0,
        step=0.01,
        advanced=True,
        tooltip=f"Noise level (sigma, 1 noise to 0 picture) {meaning} Outside its range a step "
        "takes half the time.",
    )


def _amount(name: str, most: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=0.0, min=0.0, max=most, step=0.05, tooltip=tooltip)


NODES = [Guidance]
