"""What ComfyUI's registry reads of the repository, and GitHub's forms."""

import re
import sys

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
