"""A small part of the report on faults: files, graphs, jobs and packings that go wrong.

In a process of its own, which imports ComfyUI and starts others, as `python -m benchmarks.faults`
does for the whole of it.
"""

import json
import subprocess
import sys

import pytest

from lumina_next.tools.environment import ROOT

# Of each kind a few cases, in less than a minute; "pictures" is left out, which starts four hosts.
KINDS = ["files", "graphs", "interrupts", "layer_errors", "kills", "full_disks", "load"]
SHARE = "0.01"


@pytest.mark.slow
def test_nothing_is_wrong_and_nothing_is_lost(tmp_path):
    path = tmp_path / "faults.json"
    command = ["-m", "benchmarks.faults", *KINDS, "--share", SHARE, "--json", str(path)]
    ended = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr[-5000:]}"
    found = json.loads(path.read_text())["kinds"]
    assert list(found) == KINDS
    assert all(row["tried"] == row["right"] for kind in found.values() for row in kind["rows"])
