"""Each older ComfyUI is fetched and tested, and a failure in one is a failure."""

import os

import pytest

from lumina_next.tools import fetch, older_hosts
from lumina_next.tools.environment import ROOT


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """What would be run, each with the COMFYUI_DIR that it would see."""
    noted = []
    monkeypatch.setenv("COMFYUI_DIR", "before")
    monkeypatch.setattr(older_hosts, "remove_leftovers", lambda: None)
    monkeypatch.setattr(
        older_hosts, "fetch_host", lambda python, release: noted.append((release.version, ""))
    )
    monkeypatch.setattr(
        older_hosts,
        "run",
        lambda *command, cwd: noted.append((os.environ["COMFYUI_DIR"], command[-1])),
    )
    return noted


def test_every_older_comfyui_is_fetched_then_tested(commands):
    older_hosts.main(["-x"])
    releases = fetch.OLDER_HOSTS
    fetched = [(release.version, "") for release in releases]
    assert commands == fetched + [(str(release.folder), "-x") for release in releases]


@pytest.mark.parametrize("name", older_hosts.TESTS)
def test_tests_are_there(name):
    assert (ROOT / "tests" / "host" / name).exists()
