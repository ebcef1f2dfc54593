"""Runs tests in older versions of ComfyUI, which are fetched into .host first.

    .venv/bin/python -m tools.older_hosts

The tests of what ComfyUI's versions do differently: models, prompts, sampling, and jobs over HTTP.
The rest is the same in each, or about the editor of the newest. Other arguments are pytest's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .environment import one_at_a_time, remove_leftovers
from .fetch import OLDER_HOSTS, fetch_host
from .shell import ROOT, run, say

TESTS = (
    "model",
    "options",
    "native_nodes",
    "checkpoints/test_quantizing.py",
    "prompts",
    "text_encoders/test_clip.py",
    "text_encoders/test_loading.py",
    "text_encoders/test_token_table.py",
    "text_encoders/test_writing.py",
    "test_jobs.py",
    "test_pipeline_parity.py",
    "test_sampling.py",
    "test_versions.py",
)


def main(arguments: list[str]) -> None:
    """Run the tests in each older ComfyUI. SystemExit if one fails."""
    python = Path(sys.executable)
    with one_at_a_time():
        remove_leftovers()
        for release in OLDER_HOSTS:
            fetch_host(python, release)
    files = [f"tests/host/{name}" for name in TESTS]
    for release in OLDER_HOSTS:
        say(f"Tests in ComfyUI {release.version}")
        os.environ["COMFYUI_DIR"] = str(release.folder)
        run(python, "-m", "pytest", *files, *arguments, cwd=ROOT)


if __name__ == "__main__":
    main(sys.argv[1:])
