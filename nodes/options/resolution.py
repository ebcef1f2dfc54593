"""Sizes beyond the trained one: how position encoding and attention follow the picture."""

from comfy_api.latest import io

from ...host.options import resolution
from ...lumina.rope.scaling import (
    CHOICES,
    DYPE_BASES,
    METHODS,
    PARAMETERS,
    TRAINED_SIZE,
    Scaling,
    short_name,
)
from ..inputs import choice_input, listed, number_input
from ..library import ALIASES, CATEGORY


class ResolutionNode(io.ComfyNode):
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
                number_input("trained_size", TRAINED_SIZE),
                io.Boolean.Input(
                    "isotropic",
                    default=False,
                    advanced=True,
                    tooltip="One factor from the picture's area for both axes, as in the released "
                    "code, instead of one for the height and one for the width.",
                ),
                io.Combo.Input(
                    "proportional_attention",
                    options=list(resolution.PROPORTIONAL),
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
        return io.NodeOutput(
            resolution.with_resolution(
                model, method, trained_size, isotropic, proportional_attention
            )
        )


def _method_input() -> io.DynamicCombo.Input:
    return choice_input(
        "method",
        {name: _setting_inputs(name) for name in CHOICES},
        f"How position encoding changes.\n{listed(CHOICES)}",
    )


def _setting_inputs(choice: str) -> list[io.Input]:
    settings = METHODS[choice].settings if choice in METHODS else ()
    return [_setting_input(short_name(choice, setting), setting) for setting in settings]


def _setting_input(name: str, setting: str) -> io.Input:
    if setting in PARAMETERS:
        return number_input(name, PARAMETERS[setting])
    return io.Combo.Input(
        name,
        options=list(DYPE_BASES),
        default=Scaling().dype_base,
        tooltip="The method whose factor fades.",
    )


NODES = [ResolutionNode]
