"""The files of fitted solvers: in models/lumina_next_solvers, and the demo model's in the pack."""

import logging
import os
from pathlib import Path, PureWindowsPath

import folder_paths

from ...lumina.checkpoints.wording import printable, quoted
from ...lumina.solvers.fitted import FittedFile, Setting, read_fitted
from ..checkpoints.folders import DEMO_MODELS

FOLDER = "lumina_next_solvers"
SUFFIX = ".json"


def register_solvers() -> None:
    """Make models/lumina_next_solvers a folder of ComfyUI's, which extra_model_paths may move."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def folders() -> list[Path]:
    """Where files are looked for, in this order; a new one goes into the first."""
    return [*map(Path, folder_paths.get_folder_paths(FOLDER)), DEMO_MODELS / FOLDER]


def names() -> list[str]:
    """What the dropdown lists, sorted. Raises nothing."""
    found = set()
    for folder in folders():
        try:
            found |= {name for name in os.listdir(folder) if _is_listed(name)}
        except OSError:
            continue
    return sorted(found, key=str.lower)


def _is_listed(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(".") and name.isprintable()


def find(name: str) -> Path:
    """The file of a name. Raises FileNotFoundError listing the names that there are."""
    if isinstance(name, str) and PureWindowsPath(name).name == name:
        for folder in folders():
            if (folder / name).is_file():
                return folder / name
    listed = printable(", ".join(names()[:10])) or "nothing"
    raise FileNotFoundError(
        f"{quoted(name)} is not in models/{FOLDER}, where there is: {listed}. Put it there, or fit "
        'one with "Lumina-Next Fit Solver", and press R.'
    )


def new_file(name: str, default: str) -> Path:
    """Path of a file to write in models/lumina_next_solvers. Raises ValueError for a bad name."""
    name = name.strip().removesuffix(SUFFIX) or default
    if PureWindowsPath(name).name != name or name.startswith(".") or not name.isprintable():
        raise ValueError(f'"file_name" must be a bare file name, not {quoted(name)}.')
    return folders()[0] / f"{name[:100]}{SUFFIX}"


def fitted_to(setting: Setting) -> tuple[str, FittedFile] | None:
    """The name and content of the file that fits a run best; None where none fits its model.

    Of several for the model the one with fewest differences counts, of those the first by name.
    """
    found = []
    for name in names():
        try:
            content = read_fitted(find(name))
        except (ValueError, OSError) as error:
            logging.warning("%s", error)
            continue
        if content.setting.is_of_model(setting):
            found.append((len(content.setting.differences(setting)), name, content))
    return min(found, key=lambda item: item[:2])[1:] if found else None


def state(name: str) -> object:
    """Changes whenever the file does."""
    stat = find(name).stat()
    return [stat.st_mtime_ns, stat.st_size]
