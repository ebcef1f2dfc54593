"""Finds the files that make up a model, and reads them; shared by all architectures.

Code inside a pickle never runs: torch files are read as plain tensors or refused. Shards are named
as Hugging Face and fairscale name them.
"""

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath, PureWindowsPath

import torch
from safetensors.torch import load_file
from torch import Tensor

from .. import limits
from ..foreign import reading
from ..json_files import read_json_object
from ..wording import listed, quoted
from .broken import PICKLED, SAFETENSORS, explain_unreadable
from .torch_files import describe_torch_file

INDEX = ".index.json"

# model-00001-of-00003.safetensors counts from 1, consolidated.00-of-02.pth from 0.
_SHARD = re.compile(
    r"(?P<stem>.+)(?P<separator>[-.])(?P<rank>\d+)-of-(?P<size>\d+)(?P<suffix>\.\w+)"
)
_NOT_A_MODEL = re.compile(r"model_args|optimizer|scheduler|training_args|rng_state")
_NESTED = ("state_dict", "model", "module", "ema")
_MOST_NESTED = 8  # a pickle may hold itself


def shard_paths(path: str | Path, subfolder: str = "transformer") -> list[Path]:
    """All weights files of one model, in order.

    path: a weights file, any shard, a *.index.json, or a folder that `find_model` searches.
    Raises FileNotFoundError naming the files that are missing, ValueError for a bad index.
    """
    path = Path(path)
    if os.path.isdir(path):
        path = find_model(path, subfolder)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path.name} does not exist in {path.parent}")
    names = _part_names(path)
    missing = [name for name in names if not os.path.isfile(path.parent / name)]
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
    if os.path.isdir(folder / subfolder):
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
    with reading(path.name):
        if path.suffix.lower() in SAFETENSORS:
            return load_file(path)
        mappable = zipfile.is_zipfile(path)  # files from before torch 1.6 are not
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
        return state_dict_of(loaded, path.name)


def read_file_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file on device "meta", without reading them. Raises as `read_file`."""
    with reading(path.name):
        try:
            described = describe_torch_file(path)
        except ValueError as error:
            raise ValueError(f"{path.name} {error}") from error
        return state_dict_of(described, path.name)


def state_dict_of(loaded: object, source: str) -> dict[str, Tensor]:
    """The weights in what torch.load returned, also if a training program nested them in dicts.

    Raises ValueError if there are no weights, or other values among them.
    """
    for _ in range(_MOST_NESTED):
        if isinstance(loaded, Mapping):
            inner = [loaded[key] for key in _NESTED if isinstance(loaded.get(key), Mapping)]
            loaded = inner[0] if inner else loaded
    if isinstance(loaded, Mapping) and {"state", "param_groups"} <= set(loaded):
        raise ValueError(
            f"{source} is the state of an optimizer, kept to resume training. Choose the model "
            "itself, named consolidated.* in the released training code."
        )
    if not isinstance(loaded, Mapping) or not loaded:
        content = "nothing" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise ValueError(f"{source} holds {content} where named weights were expected.")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{source} holds more than named weights: {quoted(key)} is a "
                f"{type(value).__name__}. Save the model's state dict alone."
            )
    return dict(loaded)


def _model_files(folder: Path) -> Iterator[Path]:
    """The index files, and the weights files that no index lists."""
    try:
        paths = [folder / name for name in os.listdir(folder)]
    except OSError as error:
        raise ValueError(f"The folder {folder.name} cannot be read: {error.strerror}.") from error
    indexes = [path for path in paths if path.name.endswith(INDEX)]
    yield from indexes
    indexed = {name for index in indexes for name in _part_names(index)}
    for path in paths:
        is_weights = path.suffix.lower() in SAFETENSORS + PICKLED and os.path.isfile(path)
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
    first, size = (1 if shard["separator"] == "-" else 0), int(shard["size"])
    rank, digits = int(shard["rank"]), len(shard["rank"])
    if size > limits.SHARDS or rank not in range(first, first + size):
        raise ValueError(
            f"{path.name} in {path.parent.name} calls itself number {rank} of {size} files, "
            f"counted from {first}; models come in up to {limits.SHARDS:,}. Rename it as it was "
            "published."
        )
    return [
        f"{shard['stem']}{shard['separator']}{number:0{digits}}-of-{shard['size']}{shard['suffix']}"
        for number in range(first, first + size)
    ]


def _indexed_names(index: Path) -> list[str]:
    source = f"{index.name} in {index.parent.name}"
    weight_map = read_json_object(index, source).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ValueError(
            f'{source} is not an index of shards: it has no readable "weight_map". '
            "Download it again."
        )
    names = sorted({str(name) for name in weight_map.values()})
    if len(names) > limits.SHARDS:
        raise ValueError(
            f"{source} names {len(names):,} files; models come in up to {limits.SHARDS:,}. "
            "Download it again."
        )
    foreign = [quoted(name) for name in names if not _is_neighbor(name)]
    if foreign or not names:
        raise ValueError(f"{source} must name files beside it, not {listed(foreign) or 'none'}")
    return names


def _is_neighbor(name: str) -> bool:
    """Whether a name in a downloaded index stays in the index's folder, on any system."""
    is_bare = PureWindowsPath(name).name == name  # it knows both slashes, and drives
    return is_bare and name.lower().endswith(SAFETENSORS + PICKLED)
