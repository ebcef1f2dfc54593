"""The search for noise levels: the usual ones, those of the best forecasts, then moves of the best.

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
from .forecast import Forecast
from .pictures import Pictures, Sets
from .points import Points, moved, on_fine_grid
from .trajectories import FINE_STEPS, Fine
from .trials import Trial, attempt

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
        self.foretold: list[Points] | None = None
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
            score = self._score(points)
            if best is None or score < self._score(best):
                best = points
                if (last := self.kept.get("last")) and last.points == best:
                    self.kept["best"] = last
        if best is None:
            raise ValueError(f"{self.calls} steps do not fit on {FINE_STEPS} fine ones.")
        # All scores in the file count, also those of a longer search before.
        return self._attempt(min(self.scores, key=self.scores.__getitem__))

    def _next(self, rng: random.Random, seen: set[Points], best: Points | None) -> Points | None:
        for start in usual(self.calls):
            if start not in seen:
                return start
        if self.foretold is None:
            self.foretold = Forecast(self.fine).best(self.calls)
        for start in self.foretold:
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


def usual(calls: int) -> Iterator[Points]:
    """Those of the usual schedules."""
    for name in ("sigmoid", "uniform"):
        yield on_fine_grid(SCHEDULES[name](calls).tolist())


def _read(file: Path) -> dict[Points, float]:
    try:
        rows = json.loads(file.read_text())
        return {tuple(map(int, points)): float(score) for points, score in rows}
    except (OSError, ValueError, TypeError):
        return {}


def _write(file: Path, scores: dict[Points, float]) -> None:
    with atomic_write(file) as opened:
        opened.write(json.dumps([[points, score] for points, score in scores.items()]).encode())
