"""What is prepared for which level, in this folder: .venv (Python packages) and .host (ComfyUI).

`python3 -m tools.environment host` prepares what the demo needs, `development` adds the tests'
tools, `browser` the browser driver. Each is left alone when it is complete: a stamp, made last,
says so. Standard library only, since this runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .fetch import FETCHED_HOST, HOST_VERSION, HOSTS, fetch_host, host_directory, host_requirements
from .repair import repair_cuda_builds
from .shell import ROOT, run, say, shown

__all__ = [  # also what is made elsewhere in tools/
    "BROWSER",
    "FETCHED_HOST",
    "HOST_VERSION",
    "OLDEST_TRANSFORMERS",
    "ROOT",
    "aside",
    "host_directory",
    "host_requirements",
]

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "tools" / "constraints.txt"
TEST_REQUIREMENTS = ROOT / "tests" / "requirements.txt"
OLDEST_TRANSFORMERS = ROOT / "tests" / "oldest-transformers.txt"
BROWSER = ROOT / "tests" / "browser"


def main(level: str) -> None:
    """Prepare `level`: "host", "development" or "browser"."""
    if sys.version_info < (3, 10):  # noqa: UP036 - an older one must be told so
        raise SystemExit(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}.")
    with one_at_a_time():
        remove_leftovers()
        prepare_browser() if level == "browser" else prepare_python(level)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold off a second set-up of the same folder until the first one is through."""
    HOSTS.mkdir(exist_ok=True)
    with open(HOSTS / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_leftovers() -> None:
    """Delete scratch folders, also those of a set-up that was killed before it could."""
    for scratch in HOSTS.glob("scratch-*"):
        shutil.rmtree(scratch)


def prepare_python(level: str) -> None:
    """Bring .venv to `level`; nothing is installed when its stamp is there."""
    if not is_usable():
        make_venv()
    if host_directory() == FETCHED_HOST:
        fetch_host(PYTHON)
    if level == "host":
        install(level, host_requirements())
    else:
        install(level, host_requirements(), TEST_REQUIREMENTS)
        install_aside(OLDEST_TRANSFORMERS)


def is_usable() -> bool:
    """Whether .venv can be built upon: its Python runs, and no writer of it was killed."""
    if not PYTHON.exists() or unfinished().exists():
        return False
    probe = "import pip, sys; sys.exit(sys.prefix == sys.base_prefix)"
    return subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode == 0


def make_venv() -> None:
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise SystemExit(
            f"{sys.executable} cannot make virtual environments: its venv module is not complete. "
            "On Debian and Ubuntu: apt-get install python3-venv. Then run this again."
        )
    say(f"Making a Python environment in {shown(VENV)}")
    if VENV.exists():
        VENV.rename(Path(tempfile.mkdtemp(dir=HOSTS, prefix="scratch-")) / "venv")
        remove_leftovers()
    VENV.mkdir()
    with writing():
        run(sys.executable, "-m", "venv", VENV)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Mark .venv as unfinished. The mark stays if this process or the command in it is killed."""
    unfinished().touch()
    try:
        yield
    except SystemExit:
        # The command ended by itself and left what was there in order: it can be built upon.
        unfinished().unlink()
        raise
    unfinished().unlink()


def unfinished() -> Path:
    return VENV / "unfinished"


def install(level: str, *requirements: Path) -> None:
    """pip-install requirement lists into .venv, unless a stamp says that it is done."""
    done = [
        stamp(VENV, VENV / "pyvenv.cfg", CONSTRAINTS, *requirements[: count + 1])
        for count in range(len(requirements))  # with more lists, what fewer ask for is there too
    ]
    if done[-1].exists():
        return
    remove_stamps(VENV)  # of every level: pip may change versions that another has installed
    say(f"Installing what the {level} environment needs (the first time takes some minutes)")
    lists = [argument for path in requirements for argument in ("-r", path)]
    # Without a terminal pip's list of everything already satisfied would bury the rest.
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    # Not uv and a lock file: uv ignores pip's settings of a machine, such as an index with a torch
    # for it, cannot download a source archive, and COMFYUI_DIR brings a list that no lock knows.
    with writing():
        run(PYTHON, "-m", "pip", "install", *quiet, "-c", CONSTRAINTS, *lists)
    repair_cuda_builds(VENV)
    for file in done:
        file.touch()


def stamp(folder: Path, *files: Path) -> Path:
    """The empty file that lies in `folder` once it is installed as `files` say."""
    texts = "\0".join(path.read_text() for path in files)
    return folder / f"installed-{hashlib.sha256(texts.encode()).hexdigest()}.stamp"


def remove_stamps(folder: Path) -> None:
    for old in folder.glob("*.stamp"):
        old.unlink()


def install_aside(requirements: Path) -> None:
    """pip-install a list into `aside`, where it is complete whenever it is there."""
    folder = aside(requirements)
    done = stamp(folder, VENV / "pyvenv.cfg", requirements)
    if done.exists():
        return
    say(f"Installing {requirements.stem} into {shown(folder)}")
    with tempfile.TemporaryDirectory(dir=HOSTS, prefix="scratch-") as scratch:
        fresh = Path(scratch) / "fresh"
        # Without dependencies: all others are those of .venv itself.
        run(
            *(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--target", fresh, "-r", requirements),
        )
        (fresh / done.name).touch()
        if folder.exists():
            folder.rename(Path(scratch) / "outdated")
        fresh.rename(folder)


def aside(requirements: Path) -> Path:
    """A folder of packages in other versions than .venv's, to be put on PYTHONPATH."""
    return VENV / requirements.stem


def prepare_browser() -> None:
    """Install the browser driver; without npm the browser tests are skipped, which is said here."""
    if shutil.which("npm") is None:
        say("npm is not there, so the browser tests will be skipped")
        return
    modules = BROWSER / "node_modules"
    done = stamp(modules, BROWSER / "package.json")
    if done.exists():
        return
    remove_stamps(modules)
    say("Installing the browser driver")
    # No lock file: there is one dependency, its version is exact and it has none of its own.
    run("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", cwd=BROWSER)
    done.touch()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("host", "development", "browser"):
        raise SystemExit("usage: python3 -m tools.environment host|development|browser")
    main(sys.argv[1])
