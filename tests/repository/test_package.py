"""The package that ComfyUI's registry hands to users: complete in itself, without our scripts.

It is what is in the repository but for what .comfyignore names.
"""

import ast
import fnmatch
import os
import re
from pathlib import Path

import pytest

from lumina_next.tools.environment import ROOT

PATTERNS = [
    line
    for line in (ROOT / ".comfyignore").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]


def is_left_out(path):
    """Whether .comfyignore names the file or folder `path`, given from the root."""
    parts = Path(path).parts
    return any(
        fnmatch.fnmatch("/".join(parts[:depth]), pattern.strip("/"))
        if pattern.startswith("/")
        else fnmatch.fnmatch(parts[depth - 1], pattern.strip("/"))
        for pattern in PATTERNS
        for depth in range(1, len(parts) + 1)
    )


def shipped_files():
    for folder, folders, files in os.walk(ROOT):
        inside = Path(folder).relative_to(ROOT)
        folders[:] = [f for f in folders if f != ".git" and not is_left_out(inside / f)]
        yield from (inside / file for file in files if not is_left_out(inside / file))


FILES = sorted(shipped_files())
MODULES = [path for path in FILES if path.suffix == ".py"]
# CONTRIBUTING.md is for those who have a clone.
PAGES = [path for path in FILES if path.suffix == ".md" and path.name != "CONTRIBUTING.md"]


def imported(source, module):
    """Files or folders of ours that `module`, a path in the pack, may reach by its imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.parent.parts[: len(module.parent.parts) - node.level + 1]
            base = [*(package if node.level else ()), *filter(None, [node.module])]
            dotted = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        yield from (Path(*name.split(".")[:depth]) for name in dotted for depth in (1, 2, 3, 4))


def imports_left_out(source, module):
    targets = {path.with_suffix(end) for path in imported(source, module) for end in ("", ".py")}
    return sorted(str(path) for path in targets if (ROOT / path).exists() and is_left_out(path))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_shipped_module_imports_only_what_is_shipped(module):
    assert not imports_left_out((ROOT / module).read_text("utf-8"), module)


@pytest.mark.parametrize(
    "source, named",
    [
        ("from ..demo.scenes import drawing", "demo/scenes"),
        ("from ..tools.environment import ROOT", "tools"),
        ("import tests.support.jobs", "tests"),
        ("from ..demo import picture", "demo/picture.py"),
    ],
)
def test_import_of_what_is_left_out_is_found(source, named):
    assert named in imports_left_out(source, Path("host/validation.py"))


MADE = {"/.host/", "/.venv/", "/demo/checkpoints/", "/demo/output/"}  # by our commands


def test_patterns_name_what_there_is():
    rooted = {line for line in PATTERNS if line.startswith("/")} - MADE
    assert [line for line in sorted(rooted) if not list(ROOT.glob(line.strip("/")))] == []


def test_nodes_and_what_they_need_are_shipped():
    assert Path("__init__.py") in FILES and Path("pyproject.toml") in FILES
    assert {"docs", "locales", "lumina", "host", "nodes", "web", "workflows"} <= {
        path.parts[0] for path in FILES
    }
    models = (ROOT / "demo" / "models").rglob("*.safetensors")
    assert {path.relative_to(ROOT) for path in models} <= set(FILES)


def test_of_the_demo_only_models_graph_and_client_are_shipped_and_what_pages_show():
    shown = {".md", ".png", ".svg"}
    rest = {p for p in FILES if p.parts[0] == "demo" and p.suffix not in shown}
    rest -= {path for path in rest if path.parts[1] == "models"}
    assert {path.name for path in rest} == {"client.py", "text-to-image.api.json"}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_of_a_shipped_page_lead_to_shipped_files(page):
    text = re.sub(r"`[^`\n]*`", "", (ROOT / page).read_text("utf-8"))
    links = {link.partition("#")[0] for link in re.findall(r"\]\((?!https://)([^)]+)\)", text)}
    targets = {os.path.normpath(page.parent / link) for link in links if link}
    assert not [target for target in sorted(targets) if is_left_out(target)]
