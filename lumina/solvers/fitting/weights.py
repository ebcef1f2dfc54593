"""The weights of one step, by least squares over many pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor

RIDGE = 1e-4  # towards Euler, as a share of the slopes' own size


def step_weights(
    slopes: Sequence[Tensor], change: Tensor, trust: Tensor | None = None
) -> tuple[float, ...]:
    """Weights of `slopes`, oldest first, whose sum is 1 and that lead closest to `change`.

    slopes, change: (N, ...); change is what the step should add to x, over the step's length.
    trust: (N,) how much each picture counts, None for all alike. They minimize
    |sum_j w_j v_j - change|^2 + RIDGE |v|^2 |w - euler|^2, where Euler takes the last slope alone;
    sums are in float64, picture by picture.
    """
    count = len(slopes)
    if count == 1:
        return (1.0,)
    # From Euler's step: its difference is a sum of slopes' differences, whatever their weights.
    last = slopes[-1]
    gram = torch.zeros(count - 1, count - 1, dtype=torch.float64)
    right = torch.zeros(count - 1, dtype=torch.float64)
    size = torch.zeros((), dtype=torch.float64)
    shares = [1.0] * len(change) if trust is None else trust.tolist()
    for row, share in enumerate(shares):
        of_last = last[row].flatten().double()
        apart = torch.stack([v[row].flatten().double() - of_last for v in slopes[:-1]])
        gram += share * (apart @ apart.T).cpu()
        right += share * (apart @ (change[row].flatten().double() - of_last)).cpu()
        size += share * (of_last @ of_last).cpu()
    ridge = RIDGE * size * euler_penalty(count - 1)
    found = torch.linalg.solve(gram + ridge, right).tolist()
    return (*found, 1 - sum(found))


def trusted(off: Tensor) -> Tensor:
    """How much pictures count that are `off` (N,) from their fine states.

    1 for those near, less for those much farther off than the median: they are on their way to
    another picture, and what would bring them back would lead all others astray.
    """
    usual = off.median().clamp(min=1e-12)
    return 1 / (1 + (off / (4 * usual)) ** 4)


def euler_penalty(count: int) -> Tensor:
    """|w - euler|^2 as a matrix for u, where w = (u, 1 - sum u): u u + (sum u)^2."""
    return torch.eye(count, dtype=torch.float64) + 1
