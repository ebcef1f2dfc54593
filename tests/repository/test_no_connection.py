"""What SECURITY.md says of the shipped code: no connection, no other program, no text that is run.

tests/host/test_security.py watches the same while a graph runs.
"""

import ast
import re

import pytest

from lumina_next.tools.environment import ROOT

MODULES = [ROOT / "__init__.py"]
MODULES += [
    path for layer in ("lumina", "host", "nodes") for path in sorted((ROOT / layer).rglob("*.py"))
]
SCRIPTS = sorted((ROOT / "web").glob("*.js"))
ELSEWHERE = {"socket", "ssl", "urllib", "http", "requests", "aiohttp", "ftplib", "smtplib"}
ELSEWHERE |= {"huggingface_hub", "subprocess", "multiprocessing", "webbrowser"}
# What ComfyUI's own server answers with, and the reading of an address as text.
HARMLESS = {"aiohttp.web", "urllib.parse"}
FUNCTIONS = {"eval", "exec", "compile", "__import__"}
METHODS = {"system", "popen", "from_pretrained", "hf_hub_download"}


def reaching(source):
    """Names in a program by which it could reach outside, or run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from {alias.name.split(".")[0] for alias in node.names} & ELSEWHERE
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
            yield from set() if names & HARMLESS else {node.module.split(".")[0]} & ELSEWHERE
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from {node.func.id} & FUNCTIONS
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from {node.func.attr} & METHODS
        elif isinstance(node, ast.keyword) and node.arg == "weights_only":
            yield from set() if ast.unparse(node.value) == "True" else {"weights_only"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_reaches_nothing_outside(path):
    assert not list(reaching(path.read_text("utf-8")))


@pytest.mark.parametrize(
    "source, name",
    [
        ("import urllib.request", "urllib"),
        ("from http import client", "http"),
        ("from aiohttp import ClientSession", "aiohttp"),
        ("import os\nos.system('x')", "system"),
        ("eval(text)", "eval"),
        ("torch.load(path, weights_only=False)", "weights_only"),
        ("AutoModel.from_pretrained(name)", "from_pretrained"),
    ],
)
def test_what_reaches_outside_is_found(source, name):
    assert list(reaching(source)) == [name]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_of_the_editor_loads_nothing_from_elsewhere(path):
    text = path.read_text("utf-8")
    assert not re.search(r"\beval\(|new Function|WebSocket|XMLHttpRequest|sendBeacon", text)
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
