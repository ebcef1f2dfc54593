"""The names of models that the dropdowns list, and the files on disk of each name.

A name is a file or a Hugging Face folder, relative to ComfyUI's model folders. A model in several
files is listed once. A diffusers pipeline may lie in models/diffusers or in any model folder; its
model and its text encoder are found inside it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import folder_paths

from ...lumina.checkpoints.files import INDEX, find_model, json_object, shard_paths

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
        if not self.path.is_dir() or not config.is_file():
            return {}
        return json_object(config.read_bytes(), f"config.json in {config.parent.name}")

    @property
    def name(self) -> str:
        """Its name in error texts."""
        return self.path.name

    def state(self) -> tuple[tuple[str, int, int], ...]:
        """Names, times and sizes of all its files: changes whenever one of them does."""
        folder = self.files[0].parent
        folders = (folder, folder.parent / "tokenizer")  # the latter in a diffusers pipeline
        patterns = ("*.json", "*.model")
        small_files = sorted(
            path for folder in folders for pattern in patterns for path in folder.glob(pattern)
        )
        stats = ((file.name, file.stat()) for file in (*self.files, *small_files))
        return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


MODELS = ModelKind("diffusion_models", "transformer")
TEXT_ENCODERS = ModelKind("text_encoders", "text_encoder")


def register_demo_vae() -> None:
    """Let the host's "Load VAE" list the demo model's VAE, which is one like any other.

    The demo's model and text encoder are listed by this pack's loaders alone: the host's own would
    take them for models that they are not.
    """
    folder_paths.add_model_folder_path("vae", str(DEMO_MODELS / "vae"))


def names(kind: ModelKind) -> list[str]:
    """The names that the dropdown lists, sorted."""
    folders: dict[Path, Path | None] = {}
    models: dict[str, str] = {}
    demo = (path.name for path in (DEMO_MODELS / kind.folder).iterdir())
    for file in sorted(map(Path, {*folder_paths.get_filename_list(kind.folder), *demo})):
        if file.parent not in folders:
            folders[file.parent] = _listed_folder(kind, file.parent)
        entry = str(folders[file.parent] or file)
        if not file.name.startswith("model_args"):  # settings of a training run
            models.setdefault(_SHARD_NUMBER.sub("", entry), entry)
    return sorted({*models.values(), *_pipelines(kind)}, key=str.lower)


def _listed_folder(kind: ModelKind, folder: Path) -> Path | None:
    """The folder that is listed in place of the files in `folder`; None if they are listed."""
    for name in [*reversed(folder.parents), folder]:
        if name == Path("."):
            continue
        path = _inside(kind.folder, name)
        if path is None:
            continue
        if (path / PIPELINE).is_file() and (path / kind.subfolder).is_dir():
            return name
        if name == folder and _is_one_model(path):
            return name
    return None


def _is_one_model(folder: Path) -> bool:
    if not (folder / "config.json").is_file() and not any(folder.glob("*" + INDEX)):
        return False
    try:
        find_model(folder)
    except (ValueError, FileNotFoundError):  # several models: the user chooses a file
        return False
    return True


def _pipelines(kind: ModelKind) -> list[str]:
    roots = folder_paths.get_folder_paths(PIPELINE_FOLDERS)
    folders = (path for root in roots for path in sorted(Path(root).glob("*/" + PIPELINE)))
    return [path.parent.name for path in folders if (path.parent / kind.subfolder).is_dir()]


def locate(kind: ModelKind, name: str) -> Stored:
    """The model of a name. Raises as `find` and `shard_paths` do."""
    return Stored.at(kind, find(kind, name))


def find(kind: ModelKind, name: str) -> Path:
    """The file or folder of a name. Raises FileNotFoundError listing the names that there are."""
    for folder in (kind.folder, PIPELINE_FOLDERS):
        path = _inside(folder, Path(name))
        if path is not None:
            return path
    available = ", ".join(names(kind)[:10]) or "nothing"
    raise FileNotFoundError(
        f'"{name}" is not in models/{kind.folder}, where there is: {available}. Put it there and '
        "refresh the node definitions (press R)."
    )


def _inside(folder: str, name: Path) -> Path | None:
    # As in the host: a name cannot lead out of the folder.
    relative = os.path.relpath(os.path.join("/", name), "/")
    for root in (*folder_paths.get_folder_paths(folder), DEMO_MODELS / folder):
        path = Path(root) / relative
        if path.exists():
            return path
    return None
