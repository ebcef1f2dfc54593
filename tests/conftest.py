"""Loads the pack as ComfyUI does, by path, and decides which tests can run here.

tests/host and tests/browser are marked `host` and come last. `-m "not host"` leaves them out and
does not import them, so that the fast part pays nothing for ComfyUI. What cannot run is skipped
with the reason.
"""

import gc
import importlib.util
import os
import shutil
import sys
from pathlib import Path

# One thread, here and in child processes: in networks this small a second one only waits for the
# first, and on a machine whose cores are busy that made the fast part last 200 s instead of 30.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Imports make many objects and little garbage: looking for it took 2 s. Enabled after collection.
gc.disable()

import pytest  # noqa: E402
import torch  # noqa: E402 - reads the number of threads

ROOT = Path(__file__).resolve().parents[1]
HOST_TESTS = [ROOT / "tests" / folder for folder in ("host", "browser")]

# `import nodes` must mean ComfyUI's nodes.py, never this pack's nodes/ folder.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != ROOT]

spec = importlib.util.spec_from_file_location(
    "lumina_next", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
)
sys.modules["lumina_next"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["lumina_next"])

from lumina_next.tests.support.folders import make_model_folders  # noqa: E402 - importable now
from lumina_next.tools import environment  # noqa: E402
from lumina_next.tools.comfyui import Host  # noqa: E402


def host_is_there():
    return (environment.host_directory() / "main.py").is_file()


def pytest_report_header(config):
    if host_is_there():
        return f"ComfyUI: {os.path.relpath(environment.host_directory(), ROOT)}"
    return "ComfyUI: none, so tests that need it are left out (`make test` fetches it)"


def pytest_ignore_collect(collection_path, config):
    unwanted = config.option.markexpr.startswith("not host") or not host_is_there()
    return True if unwanted and needs_host(collection_path) else None


def needs_host(path):
    return any(path.is_relative_to(folder) for folder in HOST_TESTS)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items):
    for item in items:
        if needs_host(item.path):
            item.add_marker("host")
    items.sort(key=lambda item: item.get_closest_marker("host") is not None)
    skip_for_want("cuda", items, "" if torch.cuda.is_available() else "torch sees no CUDA device")
    skip_for_want("browser", items, missing_for_browser())


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def skip_for_want(mark, items, missing):
    if missing:
        for item in items:
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=missing))


def missing_for_browser():
    """What keeps the browser tests from running; "" where they must run and fail if they cannot."""
    if os.environ.get("REQUIRE_BROWSER"):
        return ""
    if chromium() is None:
        return "Chromium is not installed"
    if shutil.which("node") is None:
        return "Node.js is not installed"
    if not (environment.BROWSER / "node_modules" / "playwright-core").is_dir():
        return "playwright-core is not installed (`make test` does it)"
    return ""


def chromium():
    """Path of the browser, or None. CHROMIUM in the environment comes first."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session", name="chromium")
def chromium_path():
    """Path of the Chromium that browser tests start."""
    path = chromium()
    assert path, "Chromium is required here (REQUIRE_BROWSER is set) and is not installed"
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """ComfyUI as users run it: a tools.comfyui.Host, started once for the session. `server.url`."""
    with Host(tmp_path_factory.mktemp("server"), arguments=["--cpu"]) as running:
        make_model_folders(running.models)
        yield running
