"""A node that shows SIGMAS as a picture."""

from comfy_api.latest import io, ui

from ..host.sigmas_picture import draw_sigmas
from .library import ALIASES, CATEGORY


class PlotSigmas(io.ComfyNode):
    """Lumina-Next Plot Sigmas: SIGMAS as a picture, several in one to compare them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextPlotSigmas",
            display_name="Lumina-Next Plot Sigmas",
            category=CATEGORY,
            description="Draws SIGMAS, the noise levels of a run, step by step. Takes those of "
            "any scheduler and any model; a free input appears for each that is connected, to "
            "compare them in one picture.",
            search_aliases=[*ALIASES, "plot", "graph", "chart", "preview sigmas", "schedule"],
            is_output_node=True,
            inputs=[
                io.Autogrow.Input(
                    "sigmas",
                    template=io.Autogrow.TemplatePrefix(
                        io.Sigmas.Input("sigmas", tooltip="Noise levels from any scheduler."),
                        prefix="sigmas",
                        min=1,
                        max=8,
                    ),
                    tooltip="The noise levels to draw, each as a line of its own color.",
                )
            ],
            outputs=[io.Image.Output(tooltip="The picture, 768 x 512.")],
        )

    @classmethod
    def execute(cls, sigmas: io.Autogrow.Type) -> io.NodeOutput:
        image = draw_sigmas(sigmas)
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))


NODES = [PlotSigmas]
