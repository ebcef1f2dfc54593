"""Prompts for parts of the picture, by box, mask or grid, and a picture of where they act."""

from comfy_api.latest import io, ui

from ..host.options import regions as regional
from ..host.prompts.grid import grid_prompt
from ..host.regions_picture import draw_regions
from ..lumina.options.regions import BOX, FEATHER, GRID, PARAMETERS
from .inputs import number_input
from .library import ALIASES, CATEGORY

REGION_ALIASES = [*ALIASES, "regional prompt", "area", "attention couple", "compositional"]
RegionList = io.Custom(regional.REGIONS.name)


class RegionNode(io.ComfyNode):
    """Lumina-Next Region: a prompt for one part of the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextRegion",
            display_name="Lumina-Next Region",
            category=CATEGORY,
            description="A prompt for one part of the picture: a box, or a mask in its place. "
            'Chain one behind the other, the last into "Lumina-Next Regions".',
            search_aliases=[*REGION_ALIASES, "mask", "box"],
            inputs=[
                io.Conditioning.Input("prompt", tooltip="What the region should show."),
                RegionList.Input(
                    "regions",
                    optional=True,
                    tooltip='The other regions, from one more "Lumina-Next Region".',
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the region is, in place of the box: white inside, of any size; "
                    "it is stretched over the picture.",
                ),
                *(number_input(name, item) for name, item in {**BOX, **PARAMETERS}.items()),
            ],
            outputs=[
                RegionList.Output(display_name="regions", tooltip="This region and the others.")
            ],
        )

    @classmethod
    def execute(
        cls,
        prompt: list,
        x: float,
        y: float,
        width: float,
        height: float,
        weight: float,
        feather: float,
        start: float,
        end: float,
        regions: tuple | None = None,
        mask: object = None,
    ) -> io.NodeOutput:
        box = {"x": x, "y": y, "width": width, "height": height}
        settings = {"weight": weight, "feather": feather, "start": start, "end": end}
        return io.NodeOutput(regional.add_region(prompt, box, mask, regions, **settings))


class RegionsNode(io.ComfyNode):
    """Lumina-Next Regions: a global prompt with prompts for parts of the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextRegions",
            display_name="Lumina-Next Regions",
            category=CATEGORY,
            description="Joins a prompt for the whole picture with those of its regions. One pass "
            "a step draws all of them; where no region is, the global prompt acts.",
            search_aliases=REGION_ALIASES,
            inputs=[
                io.Conditioning.Input(
                    "global_prompt",
                    tooltip="What the whole picture shows, the regions included: it sets the mood "
                    "everywhere, and the content where no region is.",
                ),
                RegionList.Input("regions", tooltip='From the last "Lumina-Next Region".'),
            ],
            outputs=[
                io.Conditioning.Output(
                    tooltip="The prompt with its regions, for the sampler's positive."
                )
            ],
        )

    @classmethod
    def execute(cls, global_prompt: list, regions: tuple) -> io.NodeOutput:
        return io.NodeOutput(regional.with_regions(global_prompt, regions))


class GridNode(io.ComfyNode):
    """Lumina-Next Grid: a prompt for each cell of a grid."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextGrid",
            display_name="Lumina-Next Grid",
            category=CATEGORY,
            description="Cuts the picture into equal cells, each with a prompt of its own: one "
            "line for each, row by row from the top left.",
            search_aliases=[*REGION_ALIASES, "rows", "columns", "composition", "text area"],
            inputs=[
                io.Clip.Input("clip", tooltip='From "Load Lumina-Next Text Encoder".'),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    placeholder="One line for each cell, row by row",
                    dynamic_prompts=True,
                    tooltip="One line for each cell: the first row from left to right, then the "
                    "next. Empty lines do not count.",
                ),
                *(number_input(name, item) for name, item in GRID.items()),
                io.String.Input(
                    "global_prompt",
                    multiline=True,
                    default="",
                    placeholder="The whole picture; empty joins the lines",
                    dynamic_prompts=True,
                    optional=True,
                    tooltip="A prompt for the whole picture, which sets its mood. Empty joins the "
                    "prompts of the cells, as the released code does.",
                ),
                number_input("feather", FEATHER, optional=True),
            ],
            outputs=[
                io.Conditioning.Output(
                    tooltip="The prompts in their cells, for the sampler's positive."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        clip: object,
        prompts: str,
        rows: int,
        columns: int,
        global_prompt: str = "",
        feather: float = FEATHER.default,
    ) -> io.NodeOutput:
        return io.NodeOutput(grid_prompt(clip, prompts, rows, columns, global_prompt, feather))


class PlotRegions(io.ComfyNode):
    """Lumina-Next Plot Regions: where the regions of a prompt are, as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextPlotRegions",
            display_name="Lumina-Next Plot Regions",
            category=CATEGORY,
            description="Draws the regions of a prompt over the frame of a latent, each in a color "
            "and with its number, as strong as its prompt acts there.",
            search_aliases=[*REGION_ALIASES, "preview", "plot", "show regions"],
            is_output_node=True,
            inputs=[
                io.Conditioning.Input(
                    "prompt", tooltip='From "Lumina-Next Regions" or "Lumina-Next Grid".'
                ),
                io.Latent.Input("latent", tooltip="The latent that will be drawn; for its size."),
            ],
            outputs=[
                io.Image.Output(tooltip="The picture, of the latent's shape, 768 px on its side.")
            ],
        )

    @classmethod
    def execute(cls, prompt: list, latent: dict) -> io.NodeOutput:
        image = draw_regions(prompt, latent)
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))


NODES = [RegionNode, RegionsNode, GridNode, PlotRegions]
