"""ComfyUI and the pack imported into this process, without a server.

Both lie in folders that are on no path, and ComfyUI reads its command line when it is imported: its
settings are made here, before anything else says `import comfy`.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .fetch import host_directory
from .shell import ROOT

PACK = "lumina_next"


def import_comfyui(*arguments: str) -> None:
    """Import ComfyUI's settings as of this command line; its other modules can then be imported.

    On the processor if no arguments are given. Only the first call in a process has an effect.
    """
    if "comfy.cli_args" in sys.modules:
        return
    sys.path.insert(0, str(host_directory()))
    before, sys.argv = sys.argv, ["main.py", *(arguments or ("--cpu",))]
    try:
        import_module("comfy.options").enable_args_parsing()
        import_module("comfy.cli_args")
        import_module("utils.install_util")  # as main.py: later `utils` would be comfy's own
    finally:
        sys.argv = before


def import_pack(root: Path = ROOT) -> ModuleType:
    """The pack under a package's name, as ComfyUI imports a folder of custom_nodes."""
    spec = importlib.util.spec_from_file_location(
        PACK, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec and spec.loader  # always, of a .py file
    sys.modules[PACK] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    return pack
