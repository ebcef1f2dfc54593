"""Which models the dropdowns list, and where on disk a name leads.

A name is a file, or a folder as Hugging Face lays one out, relative to ComfyUI's model folders. A
model in several files is listed once. A whole diffusers pipeline may stand in models/diffusers or
with the weights: the model and the text encoder are then found inside it.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ...lumina.checkpoints.files import INDEX, find_model, shard_paths

PIPELINE_FOLDERS = "diffusers"
PIPELINE = "model_index.json"
_SHARD_NUMBER = re.compile(r"\d+(?=-of-\d+\.\w+$)")
DEMO_MODELS = Path(__file__).resolve().parents[2] / "demo" / "models"


@dataclass(frozen=True)
class ModelKind:
    """One kind of model: the host's name for its folders, its part of a diffusers pipeline."""

    folder: str
    subfolder: str


MODELS = ModelKind("diffusion_models", "transformer")
TEXT_ENCODERS = ModelKind("text_encoders", "text_encoder")


def register_demo_models() -> None:
    """Let every loader, ours and the host's, list the small model that comes with this pack."""
    for folder in (MODELS.folder, TEXT_ENCODERS.folder, "vae"):
        folder_paths.add_model_folder_path(folder, str(DEMO_MODELS / folder))


def names(kind: ModelKind) -> list[str]:
    """What the dropdown lists, sorted."""
    folders: dict[Path, Path | None] = {}
    models: dict[str, str] = {}
    for file in sorted(map(Path, folder_paths.get_filename_list(kind.folder))):
        if file.parent not in folders:
            folders[file.parent] = _listed_folder(kind, file.parent)
        entry = str(folders[file.parent] or file)
        if not file.name.startswith("model_args"):  # settings of a training run
            models.setdefault(_SHARD_NUMBER.sub("", entry), entry)
    return sorted({*models.values(), *_pipelines(kind)}, key=str.lower)


def _listed_folder(kind: ModelKind, folder: Path) -> Path | None:
    """The folder that stands in the list for the files in `folder`; None if they stand alone."""
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


def locate(kind: ModelKind, name: str) -> Path:
    """The file or folder that `name` stands for. Raises FileNotFoundError listing what is there."""
    for folder in (kind.folder, PIPELINE_FOLDERS):
        path = _inside(folder, Path(name))
        if path is not None:
            return path
    present = names(kind)
    there = ", ".join(present[:10]) if present else "nothing"
    raise FileNotFoundError(
        f'"{name}" is not in models/{kind.folder}, where there is: {there}. Put it there and '
        "refresh the node definitions (press R)."
    )


def _inside(folder: str, name: Path) -> Path | None:
    # As the host does it: a name cannot lead out of the folder.
    relative = os.path.relpath(os.path.join("/", name), "/")
    for root in folder_paths.get_folder_paths(folder):
        path = Path(root) / relative
        if path.exists():
            return path
    return None


def parts(kind: ModelKind, path: Path) -> list[Path]:
    """The files that hold the weights of `path`, in order."""
    return shard_paths(path, kind.subfolder)


def signature(kind: ModelKind, name: str) -> list[tuple[str, int, int]]:
    """Changes whenever a file of the model does: names, times and sizes."""
    files = parts(kind, locate(kind, name))
    folder = files[0].parent
    tokenizers = folder.parent / "tokenizer"  # in a diffusers pipeline
    beside = {path for home in (folder, tokenizers) for path in home.glob("*.json")}
    beside |= {path for home in (folder, tokenizers) for path in home.glob("*.model")}
    states = [(file.name, file.stat()) for file in [*files, *sorted(beside)]]
    return [(file, state.st_mtime_ns, state.st_size) for file, state in states]
