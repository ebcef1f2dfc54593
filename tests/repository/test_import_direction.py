"""Who may import whom: nodes -> host -> lumina -> torch, and the host's modules from where."""

import ast
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
        ("lumina/rope.py", "import comfy.utils", "comfy"),
        ("lumina/rope.py", "from ..host import model", "..host"),
        ("lumina/rope.py", "from .. import nodes", "..nodes"),
        ("lumina/deeper/rope.py", "from ...host.model import LuminaNext", "..host"),
        ("host/model.py", "from ..nodes import load", "..nodes"),
        ("host/model.py", "from comfy_api.latest import io", "comfy_api"),
        ("host/model.py", "from lumina import rope", "lumina"),
        ("nodes/load.py", "def f():\n    import folder_paths", "folder_paths"),
    ],
)
def test_upward_import_is_named(module, source, named):
    assert forbidden_imports(source, Path(module)) == {named}


@pytest.mark.parametrize(
    "module, source",
    [
        ("lumina/model.py", "from .rope import rotate"),
        ("host/model.py", "import comfy.ops\nfrom ..lumina.model import NextDiT\nfrom . import x"),
        ("nodes/load.py", "from ..host import loading\nfrom comfy_api.latest import io"),
    ],
)
def test_downward_import_is_allowed(module, source):
    assert not forbidden_imports(source, Path(module))
