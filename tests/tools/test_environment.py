"""The set-up of `make demo` and `make test`: half of one is noticed, and errors say enough."""

import fcntl
import sys
from pathlib import Path

import pytest

from lumina_next.tools import environment


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An environment in tmp_path where pip only notes what it was asked for."""
    commands = []
    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(environment, "repair_cuda_builds", lambda venv: None)
    monkeypatch.setattr(environment, "run", lambda *command: commands.append(command))
    (tmp_path / "pyvenv.cfg").write_text("version = 3.11.7\n")
    (tmp_path / "requirements.txt").write_text("torch\n")
    return commands


def install(tmp_path):
    environment.install("host", tmp_path / "requirements.txt")


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


def test_other_level_counts_only_while_its_lists_do(installed, tmp_path):
    """As `make test`, `make demo` with another ComfyUI, and `make test` again."""
    ours, theirs, tests = (tmp_path / name for name in ("requirements.txt", "b.txt", "tests.txt"))
    theirs.write_text("torch==2.5\n")
    tests.write_text("pytest\n")
    environment.install("development", ours, tests)
    environment.install("host", ours)  # is there already
    assert len(installed) == 1
    environment.install("host", theirs)
    environment.install("development", ours, tests)
    assert len(installed) == 3


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


def test_second_set_up_waits_for_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "HOSTS", tmp_path)
    with environment.one_at_a_time():
        with open(tmp_path / "lock") as second, pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(tmp_path / "lock") as second:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_leftovers_of_a_killed_set_up_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "HOSTS", tmp_path)
    (tmp_path / "scratch-1" / "half").mkdir(parents=True)
    (tmp_path / "ComfyUI").mkdir()
    environment.remove_leftovers()
    assert [path.name for path in tmp_path.iterdir()] == ["ComfyUI"]


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A browser folder in tmp_path where npm only makes the folder; the commands it was given."""
    commands = []

    def run(*command, cwd):
        commands.append(command)
        (cwd / "node_modules").mkdir(exist_ok=True)

    monkeypatch.setattr(environment, "BROWSER", tmp_path)
    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment.shutil, "which", lambda name: name)
    (tmp_path / "package.json").write_text("{}")
    return commands


def test_browser_driver_is_installed_again_when_its_version_changes(npm, tmp_path):
    environment.prepare_browser()
    environment.prepare_browser()
    assert len(npm) == 1
    for changed in ('{"dependencies": {}}', "{}"):
        (tmp_path / "package.json").write_text(changed)
        environment.prepare_browser()
    assert len(npm) == 3


def test_machine_without_npm_is_told_what_is_skipped(npm, monkeypatch, capsys):
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    environment.prepare_browser()
    assert not npm and "browser tests will be skipped" in capsys.readouterr().out
