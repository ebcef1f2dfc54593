"""Foretells how far a solver's pictures will be off, without calling the model.

Along a fine trajectory states x_k and slopes v_k are known. If the solver's own slopes were those
of the fine states nearby, all that it computes would be sums of these vectors, and its errors would
follow from their inner products alone: a matrix for all pictures together. So thousands of choices
of noise levels are compared in the time of a few model calls; the best are then tried in earnest.
On the demo model the forecast ranks levels as the tries do, with errors within a fifth of theirs.
"""

import random
from functools import cached_property

import torch
from torch import Tensor

from ...schedules import SCHEDULES
from ..fitted.solver import MEMORY
from .points import Points, moved, on_fine_grid
from .trajectories import FINE_SIGMAS, FINE_STEPS, Fine
from .weights import RIDGE, euler_penalty

CLIMBS = 8  # from different beginnings
MOVES = 300  # tried in each


class Forecast:
    """Errors to be expected, from fine trajectories.

    Vectors are coefficients (K,) of the fine states, then of the fine slopes; `gram` (K, K) has the
    means of the inner products of those over pictures and numbers.
    """

    def __init__(self, fine: Fine) -> None:
        self.fine = fine

    @cached_property
    def gram(self) -> Tensor:
        count = 2 * FINE_STEPS + 1
        total = torch.zeros(count, count, dtype=torch.float64)
        for states, slopes in zip(self.fine.states, self.fine.slopes, strict=True):
            vectors = torch.cat([states, slopes]).flatten(1).double()
            total += vectors @ vectors.T / vectors.shape[1]
        return total / len(self.fine.states)

    def error(self, points: Points) -> float:
        """Root mean square distance of the pictures from the fine ones, as far as foretold."""
        unit = torch.eye(len(self.gram), dtype=torch.float64)
        states, slopes = unit[: FINE_STEPS + 1], unit[FINE_STEPS + 1 :]
        x = states[0]
        for step, point in enumerate(points[:-1]):
            length = FINE_SIGMAS[points[step + 1]] - FINE_SIGMAS[point]
            used = slopes[list(points[: step + 1][-MEMORY:])]
            x = x + length * self._combined(used, (states[points[step + 1]] - x) / length)
        off = x - states[points[-1]]
        return float((off @ self.gram @ off).clamp(min=0).sqrt())

    def _combined(self, slopes: Tensor, change: Tensor) -> Tensor:
        """The sum of slopes (k, K) that `weights.step_weights` would make of them."""
        last, apart = slopes[-1], slopes[:-1] - slopes[-1]
        if not len(apart):
            return last
        inner = apart @ self.gram
        ridge = RIDGE * (last @ self.gram @ last) * euler_penalty(len(apart))
        found = torch.linalg.solve(inner @ apart.T + ridge, inner @ (change - last))
        return last + found @ apart

    def best(self, calls: int) -> list[Points]:
        """Points that no small move makes better, those of the smallest error first."""
        found = {self._climb(calls, random.Random(seed)) for seed in range(CLIMBS)}
        return sorted(found, key=lambda points: (self.error(points), points))

    def _climb(self, calls: int, rng: random.Random) -> Points:
        share = rng.random()
        mixed = share * SCHEDULES["sigmoid"](calls) + (1 - share) * SCHEDULES["uniform"](calls)
        best = on_fine_grid(mixed.tolist())
        lowest = self.error(best)
        for _ in range(MOVES):
            points = moved(best, rng)
            if points is not None and (error := self.error(points)) < lowest:
                best, lowest = points, error
        return best
