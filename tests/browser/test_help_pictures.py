"""The pictures of the help pages: each node wired up, as the editor draws it.

tests/browser/help_pictures.mjs drives Chromium once for all of these tests. `--help-pictures
FOLDER` says where its pictures go, as web/docs has them.
"""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from lumina_next.tools.environment import BROWSER, ROOT

pytestmark = pytest.mark.browser

DOCS = ROOT / "web" / "docs"
NODES = sorted(json.loads((ROOT / "node_list.json").read_text("utf-8")))
LARGEST_BYTES = 40_000
# Fonts and with them widths of nodes are a little different on other machines.
TOLERANCE = 0.15


@pytest.fixture(scope="module")
def drawn(server, chromium, tmp_path_factory, request):
    """What help_pictures.mjs reports, with the folder of its pictures."""
    drawings = tmp_path_factory.mktemp("drawings")
    settings = {
        "url": server.url,
        "chromium": chromium,
        "folder": str(drawings),
        "nodes": NODES,
    }
    command = ["node", "help_pictures.mjs", json.dumps(settings)]
    run = subprocess.run(command, cwd=BROWSER, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, f"{run.stderr}\nComfyUI's log ends:\n{server.log_tail()}"
    chosen = request.config.getoption("--help-pictures", default=None)
    folder = Path(chosen).resolve() if chosen else tmp_path_factory.mktemp("pictures")
    for node in NODES:
        with Image.open(drawings / f"{node}.png") as picture:
            picture.convert("RGB").save(folder / f"{node}.webp", quality=80, method=6)
    return {**json.loads(run.stdout), "folder": folder}


@pytest.mark.parametrize("node", NODES)
def test_page_shows_the_node_as_it_is_drawn(drawn, node):
    with (
        Image.open(DOCS / f"{node}.webp") as kept,
        Image.open(drawn["folder"] / f"{node}.webp") as new,
    ):
        assert kept.size == pytest.approx(new.size, rel=TOLERANCE)
        assert min(new.size) > 100 and len(new.getcolors(10**6)) > 50


@pytest.mark.parametrize("node", NODES)
def test_picture_is_small(node):
    assert (DOCS / f"{node}.webp").stat().st_size < LARGEST_BYTES


def test_nothing_fails_while_they_are_drawn(drawn):
    assert drawn["exceptions"] == [] and drawn["elsewhere"] == []
