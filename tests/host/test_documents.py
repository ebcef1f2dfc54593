"""What users read is true: help pages of the nodes, and the programs in docs/api.md."""

import json
import re
import subprocess
import sys
import urllib.request

import pytest

from lumina_next.tests.support import editor_graphs as graphs
from lumina_next.tests.support import jobs
from lumina_next.tools.comfyui import PACK_NAME
from lumina_next.tools.environment import ROOT


@pytest.fixture(scope="module")
def known(server):
    """{class: what the editor is told about it}."""
    return server.get("/object_info")


def nodes_of_the_pack(known):
    return [info for info in known.values() if info["python_module"] == f"custom_nodes.{PACK_NAME}"]


def test_every_node_of_the_pack_is_explained(known):
    for info in nodes_of_the_pack(known):
        assert info["description"] and all(info["output_tooltips"]), info["name"]
        inputs = graphs.declared(known, {"type": info["name"]})
        assert all(settings["tooltip"] for _, settings in inputs.values()), info["name"]


def test_nodes_lie_in_a_folder_of_their_own_and_are_found_by_lumina(known):
    for info in nodes_of_the_pack(known):
        assert info["category"] == "Lumina-Next"
        assert {"lumina", "lumina next"} <= set(info["search_aliases"]), info["name"]


def test_every_help_page_is_of_a_node_and_names_its_inputs(known):
    infos = {info["name"]: info for info in nodes_of_the_pack(known)}
    pages = {path.stem: path.read_text() for path in (ROOT / "web" / "docs").glob("*.md")}
    assert pages.keys() == infos.keys()
    for name, page in pages.items():
        assert page.startswith(f"# {infos[name]['display_name']}\n")
        for given, (_, settings) in graphs.declared(known, {"type": name}).items():
            assert f"**{settings.get('display_name', given)}**" in page, f"{name}: {given}"


def test_help_pages_are_served(server):
    for path in (ROOT / "web" / "docs").glob("*.md"):
        with urllib.request.urlopen(
            f"{server.url}/extensions/{PACK_NAME}/docs/{path.name}"
        ) as page:
            assert page.read() == path.read_bytes()


def programs():
    """The Python in docs/api.md: first what talks to a server, then what needs none."""
    talks, *needs_none = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL
    )
    return talks, "\n".join(needs_none)


def run_python(code, folder):
    """What the program prints."""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_program_in_the_docs_downloads_a_picture(server, tmp_path):
    program, _ = programs()
    code = program.replace("http://127.0.0.1:8188", server.url)
    assert code != program
    (tmp_path / "text-to-image.api.json").write_text(json.dumps(jobs.good_graph()))
    printed = run_python(code, tmp_path)
    (picture,) = tmp_path.glob("*.png")
    assert printed.strip() == picture.name
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_program_in_plain_torch_draws_a_picture(tmp_path):
    _, program = programs()
    for folder in ("lumina", "demo"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    run_python(program, tmp_path)
    (picture,) = tmp_path.glob("*.png")
    assert f'save("{picture.name}")' in program
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
