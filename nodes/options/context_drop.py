"""Faster attention while the picture is mostly noise."""

from comfy_api.latest import io

from ...host.options import settings
from ...lumina.options.context_drop import ORDERS, ContextDrop
from .resolution import ALIASES, CATEGORY


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
                io.Int.Input(
                    "factor",
                    default=ContextDrop().factor,
                    min=1,
                    max=8,
                    tooltip="Side of the averaged cells, in tokens of 16 px. 2 leaves a quarter "
                    "of the tokens to look at; higher is faster and loses more. 1 changes "
                    "nothing.",
                ),
                io.Float.Input(
                    "until",
                    default=ContextDrop().until,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the way from noise to picture at which the last layer stops "
                    "dropping. Higher is faster and may cost detail.",
                ),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default="first",
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
