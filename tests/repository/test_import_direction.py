"""Who may import whom: nodes -> host -> lumina -> torch, and the host's modules from where."""

import ast
import graphlib
from pathlib import Path

import pytest

from lumina_next.tools.environment import ROOT

HOST = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths"}
HOST |= {"latent_preview", "node_helpers", "nodes", "server"}
# `..nodes` stands for a relative import that reaches the pack's folder of that name.
FORBIDDEN = {
    "lumina": HOST | {"..host", "..nodes"},
    "host": {"comfy_api", "comfy_extras", "execution", "node_helpers", "nodes", "..nodes"},
    "nodes": HOST - {"comfy_api"},
}
# Ours are reached relatively only: the host imports the pack under a name that is a path.
FORBIDDEN = {layer: names | {"host", "lumina", "nodes"} for layer, names in FORBIDDEN.items()}
FILES = [path for layer in FORBIDDEN for path in sorted((ROOT / layer).rglob("*.py"))]


def imports(source, module):
    """What `module`, its path inside the pack, imports: top names, and `..folder` for our own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            package = module.parent.parts[: len(module.parent.parts) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (".." + ".".join([*package, name]).split(".")[0] for name in names)


def forbidden_imports(source, module):
    return set(imports(source, module)) & FORBIDDEN[module.parts[0]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layer_imports_only_downwards(path):
    assert not forbidden_imports(path.read_text(), path.relative_to(ROOT))


@pytest.mark.parametrize(
    "module, source, named",
    [
        ("lumina/rope/scaling.py", "import comfy.utils", "comfy"),
        ("lumina/config.py", "from ..host import model", "..host"),
        ("lumina/config.py", "from .. import nodes", "..nodes"),
        ("lumina/rope/scaling.py", "from ...host.model import LuminaNext", "..host"),
        ("host/model/loading.py", "from ...nodes import loaders", "..nodes"),
        ("host/model/loading.py", "from comfy_api.latest import io", "comfy_api"),
        ("host/model/loading.py", "from lumina import rope", "lumina"),
        ("nodes/loaders.py", "def f():\n    import folder_paths", "folder_paths"),
    ],
)
def test_upward_import_is_named(module, source, named):
    assert forbidden_imports(source, Path(module)) == {named}


@pytest.mark.parametrize(
    "module, source",
    [
        ("lumina/model/next_dit.py", "from ..rope import rotate"),
        (
            "host/model/loading.py",
            "import comfy.ops\nfrom ...lumina.model import next_dit\nfrom . import ops",
        ),
        ("nodes/loaders.py", "from ..host import loading\nfrom comfy_api.latest import io"),
    ],
)
def test_downward_import_is_allowed(module, source):
    assert not forbidden_imports(source, Path(module))


def folders_imported(layer):
    """Folder of `layer` -> the other folders of it that the modules inside import."""
    imported = {}
    for path in sorted((ROOT / layer).glob("*/**/*.py")):
        module = path.relative_to(ROOT / layer)
        for node in ast.walk(ast.parse(path.read_text())):
            depth = len(module.parts) - getattr(node, "level", 0)
            if not isinstance(node, ast.ImportFrom) or depth != 0:
                continue  # of the levels above `layer`, or inside the folder
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found = {
                name.split(".")[0] for name in names if (ROOT / layer / name.split(".")[0]).is_dir()
            }
            imported.setdefault(module.parts[0], set()).update(found - {module.parts[0]})
    return imported


@pytest.mark.parametrize("layer", ["host", "lumina"])
def test_folders_import_each_other_in_one_direction(layer):
    imported = folders_imported(layer)
    assert "options" in imported["model"]
    graphlib.TopologicalSorter(imported).prepare()  # raises CycleError, which names the circle
