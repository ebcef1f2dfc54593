"""ComfyUI's editor in a real browser: our workflow opens, runs and is explained.

tests/browser/editor.mjs drives Chromium once for all of these tests; what it saw is asserted here.
Its screenshots lie in pytest's temporary folder. `--graph-picture FILE` says where the README's
goes.
"""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from lumina_next.demo import client
from lumina_next.tests.support import jobs
from lumina_next.tests.support.editor_graphs import by_title, to_api
from lumina_next.tools.comfyui import A_NODE_OF_THE_PACK, PACK_NAME
from lumina_next.tools.environment import BROWSER, ROOT

pytestmark = pytest.mark.browser

WORKFLOW = ROOT / "workflows" / "Lumina-Next 1 - Text to image.json"
FILE = json.loads(WORKFLOW.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the screenshots go."""
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def graph_picture(folder, request):
    """Where the picture of the graph goes."""
    chosen = request.config.getoption("--graph-picture", default=None)
    return Path(chosen or folder / "graph.png").resolve()


@pytest.fixture(scope="module")
def seen(server, chromium, folder, graph_picture):
    """What editor.mjs reports."""
    settings = {
        "url": server.url,
        "chromium": chromium,
        "folder": str(folder),
        "picture": str(graph_picture),
        "pack": PACK_NAME,
        "workflow": WORKFLOW.stem,
        "helped": A_NODE_OF_THE_PACK,
    }
    command = ["node", "editor.mjs", json.dumps(settings)]
    run = subprocess.run(command, cwd=BROWSER, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, f"{run.stderr}\nComfyUI's log ends:\n{server.log_tail()}"
    return json.loads(run.stdout)


def test_template_opens_without_a_complaint(seen):
    opened = seen["opened"]
    assert opened["complaints"] == []
    assert [node["type"] for node in opened["nodes"] if not node["isKnown"]] == []
    assert [node["type"] for node in opened["nodes"] if node["isFaulty"]] == []
    assert len(opened["nodes"]) == len(FILE["nodes"])


def test_missing_node_and_file_would_be_complained_about(seen):
    broken = seen["broken"]
    assert broken["complaints"]
    assert [node["type"] for node in broken["nodes"] if not node["isKnown"]] == ["NoSuchNode"]
    assert [node["type"] for node in broken["nodes"] if node["isFaulty"]] == ["VAELoader"]


def test_widgets_hold_the_values_of_the_file(seen):
    saved = {str(node["id"]): node["widgets_values"] for node in FILE["nodes"]}
    shown = {str(node["id"]): list(node["widgets"].values()) for node in seen["opened"]["nodes"]}
    assert shown == saved


def test_editor_sends_the_graph_that_other_tests_run(seen, server):
    known = server.get("/object_info")
    assert by_title(seen["opened"]["prompt"]) == by_title(to_api(FILE, known))


def test_run_saves_and_shows_a_picture(seen, server):
    run = seen["run"]
    assert "refusal" not in run, run
    assert run["complaints"] == []
    assert run["shown"] == [[128, 128]]
    assert jobs.wait(server, run["id"])["status"]["status_str"] == "success"
    (picture,) = client.wait(server.url, run["id"])
    assert client.download(server.url, picture).startswith(b"\x89PNG\r\n\x1a\n")


def test_picture_in_the_readme_frames_the_graph_as_it_is(seen, graph_picture):
    with Image.open(graph_picture) as taken, Image.open(ROOT / "docs" / "graph.png") as shown:
        assert shown.size == taken.size


def test_help_page_is_shown(seen):
    page = (ROOT / "web" / "docs" / f"{A_NODE_OF_THE_PACK}.md").read_text()
    headings = [line.lstrip("# ") for line in page.splitlines() if line.startswith("#")]
    assert len(headings) > 3
    assert [line for line in seen["help"].splitlines() if line in headings] == headings


def test_nothing_fails_inside_the_page(seen):
    assert seen["exceptions"] == []


def test_no_other_machine_is_asked(seen):
    assert seen["elsewhere"] == []
