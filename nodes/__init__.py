"""What the user sees: each node is a schema and one call into `host`."""

from comfy_api.latest import ComfyExtension, io

from ..host.model_folders import register_demo_models
from . import guidance, load, packing, sampling, settings, text

NODES: list[type[io.ComfyNode]] = [
    *load.NODES,
    *sampling.NODES,
    *settings.NODES,
    *guidance.NODES,
    *packing.NODES,
    *text.NODES,
]


class LuminaNextExtension(ComfyExtension):
    """The pack, as ComfyUI asks for it."""

    async def on_load(self) -> None:
        register_demo_models()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
