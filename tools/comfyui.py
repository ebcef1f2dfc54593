"""Runs ComfyUI with this pack as a child process, for the demo and the tests.

Models, inputs, outputs and a link to the pack are in a base directory of the caller's; ComfyUI's
own folder is only read. No other pack is loaded, whatever is installed.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from . import environment

PACK_NAME = "lumina-next"
A_NODE_OF_THE_PACK = "LuminaNextModelLoader"


class Host:
    """ComfyUI on a free port of this machine, running inside the `with` block.

    base: a directory of the caller's; models go to `base / "models"`, pictures to `output`
    (default `base / "output"`). source: the folder with ComfyUI's main.py. Entering raises
    RuntimeError with the end of the log if ComfyUI ends, does not answer or cannot load the pack.
    """

    def __init__(
        self,
        base: Path,
        *,
        output: Path | None = None,
        source: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.base = base.resolve()
        self.output = (output or self.base / "output").resolve()
        self.source = source or environment.host_directory()
        self.arguments = arguments
        self.log = self.base / "host.log"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Host:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the base directory and start the process, which answers some seconds later."""
        make_base_directory(self.base)
        bypass_proxy()
        self.output.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "main.py", *self._options(port)],
                cwd=self.source,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _options(self, port: int) -> list[str]:
        return [
            *([] if has_accelerator() else ["--cpu"]),
            *("--port", str(port), "--base-directory", str(self.base)),
            *("--output-directory", str(self.output), "--database-url", "sqlite:///:memory:"),
            *("--disable-api-nodes", "--disable-auto-launch"),
            *("--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK_NAME),
            *self.arguments,
        ]

    def wait_ready(self, timeout: float = 180.0) -> None:
        """Return once the server answers and has the pack's nodes. timeout: in seconds."""
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                raise self._failure("ComfyUI ended while starting.")
            if time.monotonic() > deadline:
                raise self._failure(f"ComfyUI did not answer within {timeout:.0f} s.")
            time.sleep(0.1)
        # A pack that cannot be imported is only a line in the log; the server starts without it.
        if not self.get(f"/object_info/{A_NODE_OF_THE_PACK}"):
            raise self._failure("ComfyUI started without this pack's nodes.")

    def _failure(self, problem: str) -> RuntimeError:
        return RuntimeError(f"{problem} Its log ends:\n{self.log_tail(60)}")

    def _answers(self) -> bool:
        try:
            self.get("/system_stats")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def get(self, path: str) -> dict[str, object]:
        """The JSON object that the server returns for `path`."""
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return json.load(response)

    def stop(self) -> None:
        """End the process, by force if it still runs after ten seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the process's output, without color codes."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace"))
        return "\n".join(text.splitlines()[-lines:])

    @property
    def process_id(self) -> int:
        """Id of the running server. Raises RuntimeError outside the `with` block."""
        if self._process is None:
            raise RuntimeError("ComfyUI is not running.")
        return self._process.pid

    @property
    def models(self) -> Path:
        """The folder of models; in it one folder for each kind, such as "diffusion_models"."""
        return self.base / "models"


def make_base_directory(base: Path) -> None:
    """Make the folders of a base directory of ComfyUI, with a link to this pack."""
    for name in ("custom_nodes", "input", "models", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / PACK_NAME
    if not link.is_symlink():
        link.symlink_to(environment.ROOT, target_is_directory=True)


def bypass_proxy() -> None:
    """Keep urllib from using a proxy for this machine's own address."""
    no_proxy = os.environ.get("no_proxy", "")
    if "127.0.0.1" not in no_proxy:
        os.environ["no_proxy"] = f"{no_proxy},127.0.0.1".strip(",")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def has_accelerator() -> bool:
    """Whether torch has a GPU. Without one ComfyUI needs the argument --cpu, or it ends at once."""
    import torch  # takes a second or two, so only to start ComfyUI

    return torch.accelerator.is_available()
