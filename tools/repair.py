"""Makes CUDA-built torchvision and torchaudio importable beside a torch without CUDA.

The package index has them built for CUDA only, while torch may come from elsewhere. Both work
without their compiled operators: neither ComfyUI's nodes that are run here nor the tests call one.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .shell import say

VISION_PATCH = """

# Added by tools/repair.py. This torchvision was built for CUDA and torch was not, so its
# operators cannot be loaded, but importing it needs the schemas of two of them to exist.
if not _has_ops():
    _schemas = torch.library.Library("torchvision", "DEF")
    for _operator in ("nms", "qnms"):
        _schemas.define(_operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def repair_cuda_builds(venv: Path) -> None:
    """SystemExit if the two cannot be imported and a torch without CUDA is not the reason."""
    python = venv / "bin" / "python"
    if not import_error(python, "torchvision, torchaudio"):
        return
    if not import_error(python, "torch; assert torch.version.cuda is None"):
        say("torch has no CUDA but torchvision is built for it: leaving its operators out")
        (site_packages,) = venv.glob("lib/python*/site-packages")
        without_operators(site_packages)
    if error := import_error(python, "torchvision, torchaudio"):
        raise SystemExit(f"torchvision and torchaudio do not fit the installed torch:\n{error}")


def without_operators(site_packages: Path) -> None:
    extension = site_packages / "torchvision" / "extension.py"
    if VISION_PATCH not in extension.read_text():
        patched = extension.with_suffix(".new")
        patched.write_text(extension.read_text() + VISION_PATCH)
        patched.replace(extension)
    for library in site_packages.glob("torchaudio/lib/*.so"):
        library.unlink()


def import_error(python: Path, modules: str) -> str:
    """What `import modules` writes when it fails in that Python, "" when it works."""
    result = subprocess.run([python, "-c", f"import {modules}"], capture_output=True, text=True)
    return result.stderr if result.returncode else ""
