"""ComfyUI imported into this process, its models in a directory of the caller's."""

import sys
from pathlib import Path

from lumina_next.tests.support.folders import make_model_folders
from lumina_next.tools import environment


def import_host(base: Path) -> Path:
    """Import ComfyUI on the CPU with `base` as its directory. Returns its folder of models."""
    sys.path.insert(0, str(environment.host_directory()))
    sys.dont_write_bytecode = True  # nothing is written into the host's folder
    import comfy.cli_args
    import utils.install_util  # noqa: F401 - as main.py: later `utils` would be comfy's own

    comfy.cli_args.args.cpu = True
    comfy.cli_args.args.base_directory = str(base)
    import nodes  # noqa: F401

    make_model_folders(base / "models")
    return base / "models"
