"""Faster attention while the picture is mostly noise."""

from comfy_api.latest import io

from ...host.options import settings
from ...lumina.options.context_drop import ORDERS, PARAMETERS, ContextDrop
from ..inputs import number_input
from ..library import ALIASES, CATEGORY


class ContextDropNode(io.ComfyNode):
    """Lumina-Next Context Drop: faster attention while the picture is still mostly noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextContextDrop",
            display_name="Lumina-Next Context Drop",
            category=CATEGORY,
            description="Makes large pictures faster: while the picture is mostly noise, each "
            "part of it looks at averages of the others instead of every detail.",
            search_aliases=[*ALIASES, "token merging", "tome", "speed", "faster"],
            inputs=[
                io.Model.Input("model", tooltip='From "Load Lumina-Next Model".'),
                *[number_input(name, item) for name, item in PARAMETERS.items()],
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default=ContextDrop().order,
                    advanced=True,
                    tooltip="Which layers drop longest.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with these settings.")],
        )

    @classmethod
    def execute(cls, model: object, factor: int, until: float, order: str) -> io.NodeOutput:
        drop = ContextDrop(factor, until, order)
        return io.NodeOutput(settings.with_settings(model, context_drop=drop))


NODES = [ContextDropNode]
