"""Some tokens at a time, so that what lies between two layers stays in a processor's cache.

For what is done to each token alone: a norm, a rotation, a feed-forward.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def in_pieces(
    function: Callable[..., Tensor], tokens_at_once: int | None, x: Tensor, *others: Tensor
) -> Tensor:
    """function(x, *others), of slices of each along the second axis, the tokens.

    tokens_at_once: how many of the whole batch of `x` (B, L, ...); None takes all, as compiled code
    does, which fuses by itself. `function` must not begin with a matrix product: torch multiplies
    such slices slowly.
    """
    if tokens_at_once is None or torch.compiler.is_compiling():
        return function(x, *others)
    length, size = x.shape[1], max(1, tokens_at_once // len(x))
    if length <= size:
        return function(x, *others)

    def piece(start: int) -> Tensor:
        return function(*(whole[:, start : start + size] for whole in (x, *others)))

    first = piece(0)
    out = first.new_empty(len(first), length, *first.shape[2:])
    out[:, :size] = first
    for start in range(size, length, size):
        out[:, start : start + size] = piece(start)
    return out
