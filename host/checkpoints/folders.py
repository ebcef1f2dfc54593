"""The names of models that the dropdowns list, and the files on disk of each name.

A name is a file or a Hugging Face folder, relative to ComfyUI's model folders. A model in several
files is listed once. A diffusers pipeline may lie in models/diffusers or in any model folder; its
model and its text encoder are found inside it.
"""

import functools
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import folder_paths

from ...lumina.checkpoints.files import INDEX, find_model, shard_paths
from ...lumina.checkpoints.foreign import reading
from ...lumina.checkpoints.json_files import read_json_object
from ...lumina.checkpoints.wording import printable, quoted

PIPELINE_FOLDERS = "diffusers"
PIPELINE = "model_index.json"
_SHARD_NUMBER = re.compile(r"\d+(?=-of-\d+\.\w+$)")
DEMO_MODELS = Path(__file__).resolve().parents[2] / "demo" / "models"


@dataclass(frozen=True)
class ModelKind:
    """One kind of model: the host's name for its folders, its subfolder of a diffusers pipeline."""

    folder: str
    subfolder: str


@dataclass(frozen=True)
class Stored:
    """A model on disk. path: its file or folder. files: its weights files, in order."""

    path: Path
    files: tuple[Path, ...]

    @classmethod
    def at(cls, kind: ModelKind, path: Path) -> "Stored":
        """The model in a file or folder. Raises as `shard_paths` does."""
        return cls(path, tuple(shard_paths(path, kind.subfolder)))

    @cached_property
    def config_json(self) -> Mapping[str, object]:
        """The folder's parsed config.json; empty for a file. Raises ValueError if it is damaged."""
        config = self.files[0].with_name("config.json")
        if not os.path.isdir(self.path) or not os.path.lexists(config):
            return {}
        return read_json_object(config, f"config.json in {config.parent.name}")

    @property
    def name(self) -> str:
        """Its name in error texts."""
        return self.path.name

    def state(self) -> tuple[tuple[str, int, int], ...]:
        """Names, times and sizes of all its files: changes whenever one of them does."""
        folder = self.files[0].parent
        folders = (folder, folder.parent / "tokenizer")  # the latter in a diffusers pipeline
        small_files = (
            path
            for folder in folders
            for path in _entries(folder)
            if path.name.endswith((".json", ".model"))
        )
        return tuple((file.name, *_time_and_size(file)) for file in (*self.files, *small_files))


MODELS = ModelKind("diffusion_models", "transformer")
TEXT_ENCODERS = ModelKind("text_encoders", "text_encoder")
LORAS = ModelKind("loras", "lora")


def register_demo_vae() -> None:
    """Let the host's "Load VAE" list the demo model's VAE, which is one like any other.

    The demo's model and text encoder are listed by this pack's loaders alone: the host's own would
    take them for models that they are not.
    """
    folder_paths.add_model_folder_path("vae", str(DEMO_MODELS / "vae"))


def names(kind: ModelKind) -> list[str]:
    """The names that the dropdown lists, sorted. Raises nothing, whatever lies in the folders.

    What cannot be listed is left out with a line in the log. What is damaged is listed: its trouble
    is said where it is chosen.
    """
    folders: dict[Path, Path | None] = {}
    models: dict[str, str] = {}
    demo = (path.name for path in _entries(DEMO_MODELS / kind.folder))
    for file in sorted(map(Path, {*_host_names(kind), *demo})):
        if file.parent not in folders:
            folders[file.parent] = _listed_folder(kind, file.parent)
        entry = str(folders[file.parent] or file)
        if not file.name.startswith("model_args"):  # settings of a training run
            models.setdefault(_SHARD_NUMBER.sub("", entry), entry)
    found = {*models.values(), *_pipelines(kind)}
    return sorted(filter(_can_be_listed, found), key=str.lower)


def _host_names(kind: ModelKind) -> list[str]:
    try:
        return folder_paths.get_filename_list(kind.folder)
    except OSError as error:  # the host walks through all folders
        _log_once(f"models/{kind.folder} cannot be listed: {error}")
        return []


def _can_be_listed(name: str) -> bool:
    """Whether a name is text: those of files can be any bytes, which the editor cannot send."""
    try:
        name.encode()
    except UnicodeEncodeError:
        _log_once(f"{quoted(name)} is not listed: its name is not valid UTF-8. Rename it.")
        return False
    return True


@functools.lru_cache(maxsize=256)
def _log_once(text: str) -> None:
    logging.warning(printable(text))  # the editor asks for the list again and again


def _listed_folder(kind: ModelKind, folder: Path) -> Path | None:
    """The folder that is listed in place of the files in `folder`; None if they are listed."""
    for name in [*reversed(folder.parents), folder]:
        path = _inside(kind.folder, str(name))
        if path is None:
            continue
        if os.path.isfile(path / PIPELINE) and os.path.isdir(path / kind.subfolder):
            return name
        if name == folder and _is_one_model(path):
            return name
    return None


def _is_one_model(folder: Path) -> bool:
    is_index = any(path.name.endswith(INDEX) for path in _entries(folder))
    if not is_index and not os.path.isfile(folder / "config.json"):
        return False
    try:
        find_model(folder)
    except (ValueError, FileNotFoundError):  # several, or a damaged index: the files are listed
        return False
    return True


def _pipelines(kind: ModelKind) -> list[str]:
    roots = map(Path, folder_paths.get_folder_paths(PIPELINE_FOLDERS))
    return [
        folder.name
        for root in roots
        for folder in _entries(root)
        if os.path.isfile(folder / PIPELINE) and os.path.isdir(folder / kind.subfolder)
    ]


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing if it cannot be read or is none."""
    try:
        return sorted(folder / name for name in os.listdir(folder))
    except OSError:
        return []


def _time_and_size(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError:  # a link to nowhere, which may stand beside any model
        return (0, 0)
    return stat.st_mtime_ns, stat.st_size


def locate(kind: ModelKind, name: str) -> Stored:
    """The model of a name. Raises as `find` and `shard_paths` do."""
    path = find(kind, name)
    with reading(path.name):
        return Stored.at(kind, path)


def find(kind: ModelKind, name: str) -> Path:
    """The file or folder of a name. Raises FileNotFoundError listing the names that there are."""
    path = _path_of(kind, name)
    if path is not None:
        return path
    available = printable(", ".join(names(kind)[:10])) or "nothing"
    raise FileNotFoundError(
        f"{quoted(name)} is not in models/{kind.folder}, where there is: {available}. Put it there "
        "and refresh the node definitions (press R)."
    )


def is_folder(kind: ModelKind, name: str) -> bool:
    """Whether a name is that of a folder. A link to nowhere, which is listed too, is none."""
    path = _path_of(kind, name)
    return path is not None and os.path.isdir(path)


def _path_of(kind: ModelKind, name: str) -> Path | None:
    paths = (_inside(folder, name) for folder in (kind.folder, PIPELINE_FOLDERS))
    return next(filter(None, paths), None)


def _inside(folder: str, name: object) -> Path | None:
    """The path of a name in one of the host's folders; None if there is none, as for the root."""
    if not isinstance(name, str):
        return None
    # As in the host: a name cannot lead out of the folder.
    relative = os.path.relpath(os.path.join("/", name), "/")
    for root in (*folder_paths.get_folder_paths(folder), DEMO_MODELS / folder):
        path = Path(root) / relative
        if relative != "." and os.path.exists(path):
            return path
    return None
