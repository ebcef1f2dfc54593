"""The weights of one step, by least squares over many pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor

RIDGE = 1e-4  # towards Euler, as a share of the slopes' own size


def step_weights(slopes: Sequence[Tensor], change: Tensor) -> tuple[float, ...]:
    """Weights of `slopes`, oldest first, whose sum is 1 and that lead closest to `change`.

    slopes, change: (N, ...); change is what the step should add to x, over the step's length. They
    minimize |sum_j w_j v_j - change|^2 + RIDGE |v|^2 |w - euler|^2, where Euler takes the last
    slope alone; sums are in float64, picture by picture.
    """
    count = len(slopes)
    if count == 1:
        return (1.0,)
    # From Euler's step: its difference is a sum of slopes' differences, whatever their weights.
    last = slopes[-1]
    gram = torch.zeros(count - 1, count - 1, dtype=torch.float64)
    right = torch.zeros(count - 1, dtype=torch.float64)
    size = torch.zeros((), dtype=torch.float64)
    for row in range(len(change)):
        of_last = last[row].flatten().double()
        apart = torch.stack([v[row].flatten().double() - of_last for v in slopes[:-1]])
        gram += (apart @ apart.T).cpu()
        right += (apart @ (change[row].flatten().double() - of_last)).cpu()
        size += (of_last @ of_last).cpu()
    ridge = RIDGE * size * euler_penalty(count - 1)
    found = torch.linalg.solve(gram + ridge, right).tolist()
    return (*found, 1 - sum(found))


def euler_penalty(count: int) -> Tensor:
    """|w - euler|^2 as a matrix for u, where w = (u, 1 - sum u): u u + (sum u)^2."""
    return torch.eye(count, dtype=torch.float64) + 1
