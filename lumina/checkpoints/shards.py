"""Merges the state dicts of a model's files; weights split between ranks are concatenated."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from .key_names import StateDict, is_same
from .wording import quoted

# How fairscale's model parallelism splits weights between ranks. Every rank has the other weights.
_SPLIT_FIRST_AXIS = re.compile(
    r"(^|\.)(w[qkv]|w[kv]_y|w[13]|x_embedder|t_embedder\.mlp\.0|cap_embedder\.1"
    r"|adaLN_modulation\.1|final_layer\.linear)\.(weight|bias)$|\.attention\.gate$"
)
_SPLIT_SECOND_AXIS = re.compile(r"(^|\.)(wo|w2|t_embedder\.mlp\.2)\.weight$")


def merge(parts: Sequence[StateDict], source: str = "The checkpoint") -> dict[str, Tensor]:
    """One state dict from those of a model's files, in the order of `files.shard_paths`.

    Files without a common key are united, without copying. Files with the same keys are the ranks
    of a model-parallel run; their pieces of a weight are concatenated. Raises ValueError where that
    would not give one model.
    """
    if len(parts) > 1 and all(part.keys() == parts[0].keys() for part in parts):
        return _join_ranks(parts, source)
    merged: dict[str, Tensor] = {}
    for part in parts:
        repeated = merged.keys() & part.keys()
        if repeated:
            raise ValueError(
                f"{source} is not one of {len(parts)} parts of a model: {quoted(min(repeated))} is "
                "in more than one of them."
            )
        merged.update(part)
    return merged


def _join_ranks(parts: Sequence[StateDict], source: str) -> dict[str, Tensor]:
    if any(key.endswith(".q_norm.weight") for key in parts[0]):
        raise ValueError(
            f"{source} is one of {len(parts)} model-parallel parts, each of which normalizes "
            "queries and keys over its own heads. Joined they would be another model, so only a "
            "checkpoint saved as 00-of-01 can be loaded."
        )
    return {key: _join(key, [part[key] for part in parts], source) for key in parts[0]}


def _join(key: str, pieces: list[Tensor], source: str) -> Tensor:
    if _SPLIT_FIRST_AXIS.search(key):
        return torch.cat(pieces, dim=0)
    if _SPLIT_SECOND_AXIS.search(key):
        return torch.cat(pieces, dim=1)
    if not all(is_same(pieces[0], piece) for piece in pieces):
        raise ValueError(
            f"{source}: its {len(pieces)} parts are of different models, see {quoted(key)}."
        )
    return pieces[0]
