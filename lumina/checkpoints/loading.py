"""Loads a checkpoint as a NextDiT in plain torch: reads, renames, checks and builds it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..model.next_dit import NextDiT
from . import strict
from .architecture import checked_config
from .files import read_file, shard_paths
from .foreign import reading
from .key_names import StateDict, to_module_keys, to_native
from .shards import merge


def load_next_dit(source: str | Path | StateDict, *, dtype: torch.dtype | None = None) -> NextDiT:
    """A NextDiT on torch's own layers, with the file's own tensors, ready to run.

    source: a file, a shard, an index or a folder (`files.shard_paths`), or a state dict under any
    known names. dtype None keeps the file's dtype. Raises ValueError or FileNotFoundError that name
    the file and what is wrong with it.
    """
    name = "The checkpoint" if isinstance(source, Mapping) else Path(source).name
    with reading(name):
        state_dict = source if isinstance(source, Mapping) else read_state_dict(source)
        native = to_native(state_dict, name)
        config = checked_config(native, name)
        strict.refuse_uncomputable(native, dtype, name)
        model = NextDiT(config, device="meta")
        model.load_state_dict(to_module_keys(native), assign=True)
    return model.to(dtype=dtype).eval().requires_grad_(False)


def read_state_dict(path: str | Path, subfolder: str = "transformer") -> dict[str, Tensor]:
    """All weights of one model, under the files' own names. path: as for `files.shard_paths`."""
    return merge([read_file(shard) for shard in shard_paths(path, subfolder)], Path(path).name)
