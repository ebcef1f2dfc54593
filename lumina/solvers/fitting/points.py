"""Noise levels as points of the fine grid, and small moves of them."""

import random

from .trajectories import FINE_STEPS

Points = tuple[int, ...]  # indices into FINE_SIGMAS, from 0 to FINE_STEPS
MOVES = (1, 1, 2, 3)  # fine steps
MAX_MOVED = 3  # points at once


def on_fine_grid(sigmas: list[float]) -> Points:
    """The nearest fine levels, each at least one below the one before it, from first to last."""
    points, calls = [0], len(sigmas) - 1
    for step, sigma in enumerate(sigmas[1:-1], start=1):
        nearest = round((1 - sigma) * FINE_STEPS)
        points.append(min(max(nearest, points[-1] + 1), FINE_STEPS - (calls - step)))
    return (*points, FINE_STEPS)


def moved(points: Points, rng: random.Random) -> Points | None:
    """A few points moved a little; None if they would meet."""
    new = list(points)
    for _ in range(rng.randint(1, MAX_MOVED)):
        new[rng.randrange(1, len(new) - 1)] += rng.choice((-1, 1)) * rng.choice(MOVES)
    falls = all(one < other for one, other in zip(new, new[1:], strict=False))
    return tuple(new) if falls else None
