"""ComfyUI imported into this process, its models in a directory of the caller's."""

import sys
from pathlib import Path

from lumina_next.tests.support.folders import make_model_folders
from lumina_next.tools.in_process import import_comfyui


def import_host(base: Path) -> Path:
    """Import ComfyUI on the CPU with `base` as its directory. Returns its folder of models."""
    sys.dont_write_bytecode = True  # nothing is written into the host's folder
    import_comfyui("--cpu", "--base-directory", str(base))
    import nodes  # noqa: F401

    make_model_folders(base / "models")
    return base / "models"
