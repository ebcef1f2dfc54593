"""What the user sees: each node is a schema and one call into `host`."""

from comfy_api.latest import ComfyExtension, io

from ..host.checkpoints.folders import register_demo_vae
from ..host.previews import register_previews
from ..host.solvers.files import register_solvers
from . import convert, loaders, options, plots, prompts, regions, sampling, size, solvers

NODES: list[type[io.ComfyNode]] = [
    *loaders.NODES,
    *prompts.NODES,
    *regions.NODES,
    *size.NODES,
    *sampling.NODES,
    *solvers.NODES,
    *plots.NODES,
    *options.NODES,
    *convert.NODES,
]


class LuminaNextExtension(ComfyExtension):
    """The pack, as ComfyUI asks for it."""

    async def on_load(self) -> None:
        register_demo_vae()
        register_solvers()
        register_previews()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
