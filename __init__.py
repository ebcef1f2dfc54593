"""Lumina-Next text-to-image for ComfyUI.

lumina/ is the model, host/ the adapter to ComfyUI, nodes/ what you see in the editor.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import LuminaNextExtension

WEB_DIRECTORY = "./web"  # what the editor loads: scripts and help pages


async def comfy_entrypoint() -> LuminaNextExtension:
    """The pack's nodes, as ComfyUI asks for them.

    Imported here and not above, so that tests and tools can load the package without ComfyUI.
    """
    try:
        from .nodes import LuminaNextExtension
    except Exception:
        # ComfyUI prints only the last line of what an entry point raises.
        logging.getLogger(__name__).exception("Lumina-Next could not be loaded")
        raise
    return LuminaNextExtension()
