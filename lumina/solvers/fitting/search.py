"""The search for noise levels: from those of the usual schedules, moved as long as it helps.

Every try fits the weights anew and is judged on pictures apart from the fit. The tries are drawn
from a seed and their scores kept in a file, so a search that was stopped repeats them in no time
and goes on.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from ...checkpoints.convert.disk import atomic_write
from ...schedules import SCHEDULES
from .pictures import Pictures, Sets
from .trajectories import FINE_STEPS, Fine
from .trials import Points, Trial, attempt

MOVES = (1, 1, 2, 3)  # fine steps
MAX_MOVED = 3  # points in one try
ATTEMPTS_TO_MOVE = 1000  # draws of a move, before there is none left that is new


class Search:
    """Finds the points of a solver of `calls` steps in at most `tries` tries.

    file: where scores are kept; one that cannot be read counts as none.
    """

    def __init__(
        self, pictures: Pictures, fine: Fine, sets: Sets, calls: int, tries: int, file: Path
    ) -> None:
        self.pictures, self.fine, self.sets = pictures, fine, sets
        self.calls, self.tries, self.file = calls, tries, file
        self.scores = _read(file)
        # Those that a new try is likely to begin like: the best one, and the last one.
        self.kept: dict[str, Trial] = {}

    def best(self) -> Trial:
        """The try of the lowest score."""
        rng, seen = random.Random(self.calls), set[Points]()
        best: Points | None = None
        while len(seen) < self.tries:
            points = self._next(rng, seen, best)
            if points is None:
                break
            seen.add(points)
            if best is None or self._score(points) < self._score(best):
                best = points
                if (last := self.kept.get("last")) and last.points == best:
                    self.kept["best"] = last
        if best is None:
            raise ValueError(f"{self.calls} steps do not fit on {FINE_STEPS} fine ones.")
        return self._attempt(best)

    def _next(self, rng: random.Random, seen: set[Points], best: Points | None) -> Points | None:
        for start in starts(self.calls):
            if start not in seen:
                return start
        for _ in range(ATTEMPTS_TO_MOVE):
            move = moved(best, rng) if best else None
            if move and move not in seen:
                return move
        return None

    def _score(self, points: Points) -> float:
        if points not in self.scores:
            self.scores[points] = self._attempt(points).score(self.fine, self.sets)
            _write(self.file, self.scores)
        return self.scores[points]

    def _attempt(self, points: Points) -> Trial:
        like = min(self.kept.values(), key=lambda trial: trial.calls_to(points), default=None)
        if like is None or like.points != points:
            like = attempt(points, self.pictures, self.fine, self.sets, like)
        self.kept["last"] = like
        return like


def starts(calls: int) -> Iterator[Points]:
    """On the fine grid: sigmoid, uniform, and what is half-way between uniform and the others."""
    uniform = SCHEDULES["uniform"](calls)
    yield on_fine_grid(SCHEDULES["sigmoid"](calls).tolist())
    for schedule in SCHEDULES.values():
        yield on_fine_grid(((schedule(calls) + uniform) / 2).tolist())


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


def _read(file: Path) -> dict[Points, float]:
    try:
        rows = json.loads(file.read_text())
        return {tuple(map(int, points)): float(score) for points, score in rows}
    except (OSError, ValueError, TypeError):
        return {}


def _write(file: Path, scores: dict[Points, float]) -> None:
    with atomic_write(file) as opened:
        opened.write(json.dumps([[points, score] for points, score in scores.items()]).encode())
