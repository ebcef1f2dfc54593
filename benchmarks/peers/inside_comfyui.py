"""ComfyUI and the pack in this process, without a server: for timing what is called."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from tools.fetch import host_directory
from tools.shell import ROOT

NAME = "lumina_next"


def start(arguments: Sequence[str] = ("--cpu",)) -> None:
    """Import ComfyUI with its own command line. Once for a process."""
    sys.path.insert(0, str(host_directory()))
    before, sys.argv = sys.argv, ["main.py", *arguments]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401
        import utils.install_util  # noqa: F401 - as main.py: later `utils` would be comfy's own
    finally:
        sys.argv = before
    # What main.py has imported before it comes to custom nodes.
    import comfy_api.latest  # noqa: F401
    import nodes  # noqa: F401
    import server  # noqa: F401


def import_pack(root: Path = ROOT) -> ModuleType:
    """The pack under a package's name, as ComfyUI imports a folder of custom_nodes."""
    spec = importlib.util.spec_from_file_location(
        NAME, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    sys.modules[NAME] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    return pack
