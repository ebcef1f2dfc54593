"""Runs a command and says what is done, with paths as they are written in this repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command to its end. SystemExit if it reports failure, RuntimeError if it was killed."""
    status = subprocess.run(command, cwd=cwd).returncode
    words = " ".join(shown(word) for word in command)
    if status < 0:
        raise RuntimeError(f"This was ended by signal {-status}: {words}")
    if status:
        raise SystemExit(f"This failed with status {status}: {words}")


def shown(path: str | Path) -> str:
    """`path` relative to the repository, where it lies in it."""
    return os.path.relpath(path, ROOT) if Path(path).is_relative_to(ROOT) else str(path)


def say(text: str) -> None:
    print(text, flush=True)
