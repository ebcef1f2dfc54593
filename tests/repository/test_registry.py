"""What ComfyUI's registry reads of the repository, which files it ships, and GitHub's forms."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

from lumina_next.tools.environment import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it to Python 3.10

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
COMFY = PROJECT["tool"]["comfy"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))

# Patterns of .comfyignore: "/path" stands for that path from the root, "name/" for that folder
# anywhere.
IGNORED = [
    line
    for line in (ROOT / ".comfyignore").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
NOT_IN_GIT = {".git", ".host", ".venv", "__pycache__", *(line.strip("/") for line in IGNORED)}
SHIPPED = (
    "CHANGELOG.md LICENSE README.md __init__.py demo/models docs host locales lumina nodes "
    "pyproject.toml web workflows".split()
)
LEFT_OUT = (
    ".ci .github Makefile benchmarks demo/evaluation demo/scenes demo/training tests tools".split()
)


def is_shipped(path):
    """Whether .comfyignore leaves the path (from the root) in the package."""
    places = [f"/{part}".rstrip(".") for part in (path, *path.parents)]
    rooted = {line.rstrip("/") for line in IGNORED if line.startswith("/")}
    names = {line.rstrip("/") for line in IGNORED if not line.startswith("/")}
    return rooted.isdisjoint(places) and names.isdisjoint(path.parts)


def shipped_modules():
    modules = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return [path for path in modules if is_shipped(path) and path.parts[0] not in NOT_IN_GIT]


def imports_of_ours(path):
    """The files and folders of the repository that a module imports."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1] if node.level else Path()
            names = (node.module or "").split(".")
            found = [Path(folder, *names), *(Path(folder, *names, a.name) for a in node.names)]
        elif isinstance(node, ast.Import):
            found = [Path(*alias.name.split(".")) for alias in node.names]
        else:
            continue
        for place in found:
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if place.parts and (ROOT / file).is_file():
                    yield file


def test_name_and_version_are_as_the_registry_takes_them():
    project = PROJECT["project"]
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", project["name"])
    assert "comfyui" not in project["name"] and len(project["name"]) < 100
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["license"] == {"file": "LICENSE"}
    assert "Operating System :: OS Independent" in project["classifiers"]


def test_every_field_of_the_registry_is_there():
    fields = {"DisplayName", "PublisherId", "Icon", "Banner", "requires-comfyui"}
    assert COMFY.keys() == fields and COMFY["DisplayName"]


def test_publishing_asks_for_every_field_that_is_empty():
    workflow = (ROOT / ".github" / "workflows" / "publish.yml").read_text("utf-8")
    asked = re.search("for name in (.+); do", workflow)[1].split()
    assert {name for name, value in COMFY.items() if not value} <= set(asked)
    assert "Repository" in asked or PROJECT["project"]["urls"]["Repository"]


def test_changelog_begins_with_the_version_that_is_worked_on():
    versions = re.findall(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE)
    assert versions[0] in ("Unreleased", PROJECT["project"]["version"])
    kinds = set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE))
    assert kinds and kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("name", SHIPPED)
def test_what_users_need_is_shipped(name):
    assert (ROOT / name).exists() and is_shipped(Path(name))


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_only_developers_need_is_left_out(name):
    assert (ROOT / name).exists() and not is_shipped(Path(name))


def test_every_folder_is_decided_upon():
    decided = {Path(name).parts[0] for name in (*SHIPPED, *LEFT_OUT)}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - NOT_IN_GIT
    assert folders <= decided


def test_ignored_paths_exist_under_their_names():
    made = {"/.host/", "/.venv/", "/demo/checkpoints/", "/demo/output/"}
    rooted = {line for line in IGNORED if line.startswith("/")} - made
    assert [line for line in rooted if not (ROOT / line.strip("/")).exists()] == []
    assert all(line.startswith("/") or line.rstrip("/") in NOT_IN_GIT for line in IGNORED)


def test_shipped_modules_import_only_what_is_shipped():
    modules = shipped_modules()
    assert len(modules) > 50
    left_out = {(str(m), str(f)) for m in modules for f in imports_of_ours(m) if not is_shipped(f)}
    assert left_out == set()


def test_import_of_something_left_out_would_be_found():
    assert Path("demo/training/saving.py") in set(
        imports_of_ours(Path("demo/training/next_dit.py"))
    )
    assert not is_shipped(Path("demo/training/saving.py"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_is_one_that_github_accepts(path):
    form = yaml.safe_load(path.read_text("utf-8"))
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(set(ids)) == len(ids) > 0
    for field in fields:
        assert field["type"] in ("textarea", "input") and field["attributes"]["label"]


def test_bug_form_asks_for_log_graph_and_version():
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text("utf-8"))
    required = {f["id"] for f in form["body"] if f.get("validations", {}).get("required")}
    assert required >= {"what", "log", "graph", "host"}
