"""Loads a checkpoint as a network in plain torch: reads, renames, checks and builds it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..model.backbone import DiT
from ..model.flag_dit import FlagDiT
from ..model.next_dit import NextDiT
from . import strict
from .architecture import NETWORKS, checked_config
from .files import read_file, shard_paths
from .foreign import reading
from .key_names import StateDict, to_module_keys, to_native
from .shards import merge

Network = TypeVar("Network", bound=DiT)


def load_next_dit(source: str | Path | StateDict, *, dtype: torch.dtype | None = None) -> NextDiT:
    """A NextDiT on torch's own layers, with the file's own tensors, ready to run.

    source: a file, a shard, an index or a folder (`files.shard_paths`), or a state dict under any
    known names. dtype None keeps the file's dtype. Raises ValueError or FileNotFoundError that name
    the file and what is wrong with it.
    """
    return _load(NextDiT, source, dtype)


def load_flag_dit(source: str | Path | StateDict, *, dtype: torch.dtype | None = None) -> FlagDiT:
    """A FlagDiT, such as Lumina-T2I 5B; arguments and errors are those of `load_next_dit`."""
    return _load(FlagDiT, source, dtype)


def _load(
    network: type[Network], source: str | Path | StateDict, dtype: torch.dtype | None
) -> Network:
    name = "The checkpoint" if isinstance(source, Mapping) else Path(source).name
    with reading(name):
        state_dict = source if isinstance(source, Mapping) else read_state_dict(source)
        native = to_native(state_dict, name)
        config = checked_config(native, name)
        if NETWORKS[type(config)] is not network:
            loader = "load_flag_dit" if network is NextDiT else "load_next_dit"
            raise ValueError(f"{name} is a {config.network}: load it with {loader}.")
        strict.refuse_uncomputable(native, dtype, name)
        model = network(config, device="meta")
        model.load_state_dict(to_module_keys(native), assign=True)
    return model.to(dtype=dtype).eval().requires_grad_(False)


def read_state_dict(path: str | Path, subfolder: str = "transformer") -> dict[str, Tensor]:
    """All weights of one model, under the files' own names. path: as for `files.shard_paths`."""
    return merge([read_file(shard) for shard in shard_paths(path, subfolder)], Path(path).name)
