"""The models of transformers as CLIP, once more under the oldest version that the host allows.

It lies in a folder of its own, put before the newest on the path of a second test run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lumina_next.tools import environment

FOLDER = environment.aside(environment.OLDEST_TRANSFORMERS)
TESTS = sorted(set(Path(__file__).parent.glob("test_*.py")) - {Path(__file__)})
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the oldest transformers is not installed (`make test` does it)"
)


def pinned():
    return re.search(r"^transformers==(.*)$", environment.OLDEST_TRANSFORMERS.read_text(), re.M)[1]


def run(*command):
    """A Python of these tests' with the oldest transformers: its status and what it wrote."""
    result = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(FOLDER), "OMP_NUM_THREADS": "1"},
        cwd=environment.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return result.returncode, result.stdout


def test_folder_holds_the_pinned_version():
    status, written = run("-c", "import transformers; print(transformers.__version__)")
    assert (status, written.split()[-1]) == (0, pinned())


@pytest.mark.skipif(
    environment.host_directory() != environment.FETCHED_HOST.resolve(),
    reason="COMFYUI_DIR is set, and another ComfyUI may allow other versions",
)
def test_pinned_version_is_the_oldest_that_the_host_allows():
    requirements = environment.host_requirements().read_text()
    assert re.search(r"^transformers>=(.*)$", requirements, re.M)[1] == pinned()


def test_models_are_read_as_by_the_newest():
    status, written = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert status == 0, written[-5000:]
    assert re.search(r"^\d+ passed in", written, re.M), written[-500:]
