"""What nodes that write a model file share: where it goes, how far it is, whether it changed."""

from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import comfy.model_management
import comfy.utils
import folder_paths

from .folders import ModelKind, Stored

SUFFIX = ".safetensors"


def target(kind: ModelKind, default_name: str, file_name: str) -> Path:
    """Path of a new file in the host's folder for this kind of model.

    Raises ValueError for a name that would lead elsewhere.
    """
    name = file_name.strip() or default_name
    if PureWindowsPath(name).name != name:  # it knows both slashes, and drives
        raise ValueError(
            f'"{file_name}" must be a bare file name: the file goes into models/{kind.folder} '
            "itself."
        )
    suffix = "" if name.lower().endswith(SUFFIX) else SUFFIX
    folders = list(map(Path, folder_paths.get_folder_paths(kind.folder)))
    # The host lists models/unet, the older name, before models/diffusion_models.
    folder = next((path for path in folders if path.name == kind.folder), folders[0])
    return folder / (name + suffix)


def state(file: Path, source: Callable[[], Stored]) -> object:
    """Changes whenever the source or the written file does; NaN, unequal to itself, without it."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return float("nan")
    return [*source().state(), (stat.st_mtime_ns, stat.st_size)]


def progress_bar() -> Callable[[int, int], None]:
    """Shows bytes done of a total at the executing node, and stops the work at a user's Cancel."""
    bar = comfy.utils.ProgressBar(1)

    def show(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return show
