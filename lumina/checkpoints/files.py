"""Finds the files that make up a model, and reads them; shared by all architectures.

Code inside a pickle never runs: torch files are read as plain tensors or refused. Shards are named
as Hugging Face and fairscale name them.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath, PureWindowsPath

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .broken_files import PICKLED, SAFETENSORS, explain_unreadable

INDEX = ".index.json"

# model-00001-of-00003.safetensors counts from 1, consolidated.00-of-02.pth from 0.
_SHARD = re.compile(
    r"(?P<stem>.+)(?P<separator>[-.])(?P<rank>\d+)-of-(?P<size>\d+)(?P<suffix>\.\w+)"
)
_NOT_A_MODEL = re.compile(r"model_args|optimizer|scheduler|training_args|rng_state")
_NESTED = ("state_dict", "model", "module", "ema")


def shard_paths(path: str | Path, subfolder: str = "transformer") -> list[Path]:
    """All weights files of one model, in order.

    path: a weights file, any shard, a *.index.json, or a folder that `find_model` searches.
    Raises FileNotFoundError naming the files that are missing, ValueError for a bad index.
    """
    path = Path(path)
    if path.is_dir():
        path = find_model(path, subfolder)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} does not exist in {path.parent}")
    names = _part_names(path)
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{path.name} belongs to a model of {len(names)} files, and the folder "
            f"{path.parent.name} lacks {listed(missing)}. Download all of them into it."
        )
    return [path.parent / name for name in names]


def find_model(folder: Path, subfolder: str = "transformer") -> Path:
    """The one model in a folder: its file, its index, or one of its shards.

    If `subfolder` exists, as in a diffusers pipeline, it is searched instead. Prefers safetensors
    to torch's format, and the averaged `x_ema` to `x`, as the released sampling scripts do. Raises
    FileNotFoundError if there is no model, ValueError listing them if there are several.
    """
    if (folder / subfolder).is_dir():
        folder = folder / subfolder
    models: dict[str, Path] = {}
    for path in sorted(_model_files(folder), key=_preference):
        models.setdefault(_stem(path.name), path)
    if not models:
        expected = ", ".join(SAFETENSORS + PICKLED)
        raise FileNotFoundError(f"The folder {folder.name} holds no model ({expected}).")
    plain, *others = sorted(models)
    if others and others != [plain + "_ema"]:
        raise ValueError(
            f"The folder {folder.name} holds {len(models)} models; choose one of its files: "
            + listed([path.name for path in models.values()], most=10)
        )
    return models[others[0] if others else plain]


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one weights file, mapped from disk where the format allows.

    Raises ValueError saying what is wrong with a file that is damaged or wants to run code.
    """
    problem = explain_unreadable(path)
    if problem:
        raise ValueError(problem)
    if path.suffix.lower() in SAFETENSORS:
        try:
            return load_file(path)
        except SafetensorError as error:  # its header is sound: explain_unreadable has checked it
            raise ValueError(f"torch cannot hold the numbers in {path.name}: {error}.") from error
    try:
        mappable = zipfile.is_zipfile(path)  # files from before torch 1.6 are not
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path.name} cannot be read as plain weights: {reason}. It is damaged, or would run "
            "code when opened; use a .safetensors file of the model."
        ) from error
    return state_dict_of(loaded, path.name)


def state_dict_of(loaded: object, source: str) -> dict[str, Tensor]:
    """The weights in what torch.load returned, also if a training program nested them in dicts.

    Raises ValueError if there are no weights, or other values among them.
    """
    while isinstance(loaded, Mapping):
        inner = [loaded[key] for key in _NESTED if isinstance(loaded.get(key), Mapping)]
        if not inner:
            break
        loaded = inner[0]
    if isinstance(loaded, Mapping) and {"state", "param_groups"} <= set(loaded):
        raise ValueError(
            f"{source} is the state of an optimizer, kept to resume training. Choose the model "
            "itself, named consolidated.* in the released training code."
        )
    if not isinstance(loaded, Mapping) or not loaded:
        content = "nothing" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise ValueError(f"{source} holds {content} where named weights were expected.")
    foreign = [key for key, value in loaded.items() if not isinstance(value, Tensor)]
    if foreign:
        raise ValueError(
            f'{source} holds more than weights: "{foreign[0]}" is a '
            f"{type(loaded[foreign[0]]).__name__}. Save the model's state dict alone."
        )
    return dict(loaded)


def json_object(text: str | bytes, source: str) -> dict[str, object]:
    """The object in a JSON text. Raises ValueError naming `source` if there is none."""
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError(f"{source} is damaged. Download it again.")
    return parsed


def listed(names: list[str], most: int = 3) -> str:
    """The first `most` names, and how many more there are, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, noun: str) -> str:
    """ "1 weight", "2 weights"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _model_files(folder: Path) -> Iterator[Path]:
    """The index files, and the weights files that no index lists."""
    indexes = list(folder.glob("*" + INDEX))
    yield from indexes
    indexed = {name for index in indexes for name in _part_names(index)}
    for path in folder.iterdir():
        is_weights = path.suffix.lower() in SAFETENSORS + PICKLED and path.is_file()
        if is_weights and path.name not in indexed and not _NOT_A_MODEL.match(path.name):
            yield path


def _preference(path: Path) -> tuple[bool, str]:
    is_safetensors = path.name.removesuffix(INDEX).lower().endswith(SAFETENSORS)
    return not is_safetensors, path.name


def _stem(name: str) -> str:
    """A model's name without format and shard number, the same for all its files."""
    name = name.removesuffix(INDEX)
    shard = _SHARD.fullmatch(name)
    stem = shard["stem"] if shard else PurePath(name).stem
    return stem.removeprefix("pytorch_")  # pytorch_model.bin is model.safetensors in torch's format


def _part_names(path: Path) -> list[str]:
    """Names of all files of the model that `path`, a shard or an index, belongs to."""
    if path.name.endswith(INDEX):
        return _indexed_names(path)
    shard = _SHARD.fullmatch(path.name)
    if shard is None:
        return [path.name]
    first, digits = (1 if shard["separator"] == "-" else 0), len(shard["rank"])
    return [
        f"{shard['stem']}{shard['separator']}{rank:0{digits}}-of-{shard['size']}{shard['suffix']}"
        for rank in range(first, first + int(shard["size"]))
    ]


def _indexed_names(index: Path) -> list[str]:
    try:
        weight_map = json_object(index.read_bytes(), index.name).get("weight_map")
    except ValueError:
        weight_map = None
    if not isinstance(weight_map, dict):
        raise ValueError(
            f'{index.name} is not an index of shards: it has no readable "weight_map". '
            "Download it again."
        )
    names = sorted({str(name) for name in weight_map.values()})
    foreign = [name for name in names if not _is_neighbor(name)]
    if foreign or not names:
        raise ValueError(f"{index.name} must name files beside it, not {listed(foreign) or 'none'}")
    return names


def _is_neighbor(name: str) -> bool:
    """Whether a name in a downloaded index stays in the index's folder, on any system."""
    is_bare = PureWindowsPath(name).name == name  # it knows both slashes, and drives
    return is_bare and name.lower().endswith(SAFETENSORS + PICKLED)
