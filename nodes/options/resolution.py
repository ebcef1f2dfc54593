"""Settings of a run on a MODEL: sizes beyond the trained one, and faster attention early on."""

from comfy_api.latest import io

from ...host.options import settings
from ...lumina.options.resolution import Resolution as RunResolution
from ...lumina.rope.scaling import DYPE_BASES, METHODS, Scaling, suited_to
from ..inputs import chosen

CATEGORY = "model/patch"
ALIASES = ["lumina", "lumina next"]
AUTO, NONE = "auto", "none"
METHOD_NAMES = (AUTO, NONE, *METHODS)
PROPORTIONAL = {"auto": None, "on": True, "off": False}


class Resolution(io.ComfyNode):
    """Lumina-Next Resolution: pictures larger than the model was trained for."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextResolution",
            display_name="Lumina-Next Resolution",
            category=CATEGORY,
            description="For pictures larger than the model was trained for: scales its position "
            "encoding to the picture, so that objects are not repeated. It reads the picture's "
            "size by itself and changes nothing at the trained size and below.",
            search_aliases=[*ALIASES, "rope", "ntk", "yarn", "dype", "high resolution", "upscale"],
            inputs=[
                io.Model.Input("model", tooltip='From "Load Lumina-Next Model".'),
                _method_input(),
                io.Int.Input(
                    "trained_size",
                    default=0,
                    min=0,
                    max=16384,
                    step=settings.PX_PER_TOKEN,
                    advanced=True,
                    tooltip="Side in pixels of the square pictures the model was trained on. 0: "
                    "as the file says, or 1024. A smaller number scales more.",
                ),
                io.Boolean.Input(
                    "isotropic",
                    default=False,
                    advanced=True,
                    tooltip="One factor from the picture's area for both axes, as in the released "
                    "code, instead of one for the height and one for the width.",
                ),
                io.Combo.Input(
                    "proportional_attention",
                    options=list(PROPORTIONAL),
                    default="auto",
                    advanced=True,
                    tooltip="Keeps attention as sharp on a large picture as on a trained one. "
                    "auto: above the trained size.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with these settings.")],
        )

    @classmethod
    def execute(
        cls,
        model: object,
        trained_size: int,
        isotropic: bool,
        proportional_attention: str,
        method: io.DynamicCombo.Type | None = None,
    ) -> io.NodeOutput:
        trained_tokens = settings.trained_tokens(model, trained_size)
        name, own = chosen(method, "method", METHOD_NAMES)
        resolution = RunResolution(
            trained_tokens=trained_tokens,
            scaling=suited_to(trained_tokens) if name == AUTO else _scaling(name, own),
            isotropic=isotropic,
            proportional=PROPORTIONAL[proportional_attention],
        )
        return io.NodeOutput(settings.with_settings(model, resolution=resolution))


def _method_input() -> io.DynamicCombo.Input:
    own = {"watershed": [_watershed_input()], "dype": _dype_inputs()}
    return io.DynamicCombo.Input(
        "method",
        options=[io.DynamicCombo.Option(name, own.get(name, [])) for name in METHOD_NAMES],
        tooltip="How position encoding changes. auto: time_aware, or watershed at 0.95 for a "
        "model trained below 512 px. linear: stretches everything; layout right, details soft. "
        "ntk: keeps details, may repeat objects. time_aware: the paper's, from linear to ntk while "
        "the picture forms. watershed: the released code's hard switch between them.",
    )


def _watershed_input() -> io.Float.Input:
    return io.Float.Input(
        "watershed",
        default=Scaling().watershed,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="Share of the way from noise to picture at which linear turns into ntk. Higher "
        "keeps the layout surer and the details softer.",
    )


def _dype_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "scale",
            default=Scaling().dype_scale,
            min=0.0,
            max=8.0,
            step=0.1,
            advanced=True,
            tooltip="How strongly positions are scaled in noise. Higher scales more.",
        ),
        io.Float.Input(
            "exponent",
            default=Scaling().dype_exponent,
            min=0.0,
            max=8.0,
            step=0.1,
            advanced=True,
            tooltip="How early scaling fades. Higher fades earlier.",
        ),
        io.Combo.Input(
            "base",
            options=list(DYPE_BASES),
            default=Scaling().dype_base,
            advanced=True,
            tooltip="The method whose factor fades.",
        ),
    ]


def _scaling(name: str, own: dict[str, object]) -> Scaling | None:
    if name == NONE:
        return None
    if name == "dype":
        own = {f"dype_{key}": value for key, value in own.items()}
    return Scaling(name, **own)


NODES = [Resolution]
