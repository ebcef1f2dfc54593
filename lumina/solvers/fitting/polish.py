"""The end of a fit: all numbers of a solver move together, judged by where its pictures end.

The search fits each step for itself, to the fine states; what later steps make of its error it
cannot know. Here noise levels and weights move at once, in damped Gauss-Newton steps (Levenberg and
Marquardt's). How the end of each picture answers to each number is measured by changing that number
a little and running the rest of the steps again: forward calls alone. The mean distance falls, not
the mean square, so that a single stray picture does not rule over all others.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...checkpoints.convert.disk import atomic_write
from ...schedules import SCHEDULES
from ..fitted.solver import MEMORY, FittedSolver
from ..runge_kutta import weighted
from .pictures import Pictures, Sets, distances
from .trajectories import Fine

SHARES = 3  # each round asks a third of the pictures to fit by what changes do, in turn
WEIGHT_CHANGE, LEVEL_CHANGE = 1e-2, 1e-3  # far above rounding, and small for the solver
DAMPINGS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)  # tried as long as each is better than the one before
HEAVIER = (10.0, 100.0)  # tried where even the first of those goes too far
NEAREST = 0.1  # of the median distance: nearer pictures count as if they were as far
REWEIGHTED = 20  # times; then the weights stand still


class Place(NamedTuple):
    """A number of a solver that may move: a weight of a step, or the level that the step leaves.

    The last weight of a step is 1 less the others, and the first and last level stay.
    """

    step: int
    weight: int | None


def places(solver: FittedSolver) -> list[Place]:
    """All numbers that may move."""
    weights = [Place(k, j) for k, row in enumerate(solver.weights) for j in range(len(row) - 1)]
    return weights + [Place(k, None) for k in range(1, solver.calls)]


def moved(solver: FittedSolver, changes: Mapping[Place, float]) -> FittedSolver:
    """The solver with these amounts added. Raises ValueError where it is none any more."""
    levels, rows = list(solver.sigmas), [list(row) for row in solver.weights]
    for place, change in changes.items():
        if place.weight is None:
            levels[place.step] += change
        else:
            rows[place.step][place.weight] += change
            rows[place.step][-1] = 1 - sum(rows[place.step][:-1])
    return FittedSolver(tuple(levels), tuple(map(tuple, rows)))


def euler(calls: int) -> FittedSolver:
    """Euler in uniform steps."""
    return FittedSolver(tuple(SCHEDULES["uniform"](calls).tolist()), ((1.0,),) * calls)


def with_all_slopes(solver: FittedSolver) -> FittedSolver:
    """The same solver with a weight, which may be 0, for every slope that a step may use."""
    rows = [
        (0.0,) * (min(step + 1, MEMORY) - len(row)) + row for step, row in enumerate(solver.weights)
    ]
    return FittedSolver(solver.sigmas, tuple(rows))


@dataclass
class Run:
    """A run of some pictures: states (n, C, H, W) at its levels so far, and slopes at those."""

    pictures: Pictures
    part: slice
    states: list[Tensor]
    slopes: list[Tensor]

    @classmethod
    def of(cls, pictures: Pictures, part: slice, solver: FittedSolver) -> "Run":
        """The whole run."""
        return cls(pictures, part, [pictures.noise[part].float()], []).finish(solver)

    def finish(self, solver: FittedSolver) -> "Run":
        """Take the steps that are left. A slope that is there already is not asked for again."""
        for step in range(len(self.states) - 1, solver.calls):
            if step == len(self.slopes):
                sigma = solver.sigmas[step]
                self.slopes.append(self.pictures.slope(self.part, self.states[step], sigma))
            self._step(solver, step)
        return self

    def changed(self, place: Place, solver: FittedSolver) -> "Run":
        """This run with `solver`, which differs from its own at `place` alone."""
        # A level is where the step before ends; a weight changes only where its own step ends.
        same = place.step if place.weight is None else place.step + 1
        return Run(self.pictures, self.part, self.states[:same], self.slopes[:same]).finish(solver)

    def _step(self, solver: FittedSolver, step: int) -> None:
        row, length = solver.weights[step], solver.sigmas[step + 1] - solver.sigmas[step]
        used = self.slopes[: step + 1][-len(row) :]
        self.states.append(self.states[step] + weighted(row, used, length))


def effects(pictures: Pictures, part: slice, truth: Tensor, solver: FittedSolver) -> Tensor:
    """What each number of the solver does to the end of each picture (n, P + 1, P + 1), float64.

    Mean products of P + 1 vectors: the ends' derivatives by the P numbers, and how far they are
    off `truth` (n, C, H, W).
    """
    run = Run.of(pictures, part, solver)
    found = [derivative(run, solver, place) for place in places(solver)]
    vectors = torch.stack([*found, run.states[-1].cpu() - truth], 1).flatten(2).double()
    return vectors @ vectors.transpose(1, 2) / vectors.shape[2]


def derivative(run: Run, solver: FittedSolver, place: Place) -> Tensor:
    """Of the end of a whole run (n, C, H, W) by a number of its solver; 0 if that cannot move."""
    size, end = LEVEL_CHANGE if place.weight is None else WEIGHT_CHANGE, run.states[-1].cpu()
    for change in (size, -size):  # a level close below another may only fall
        try:
            other = moved(solver, {place: change})
        except ValueError:
            continue
        return (run.changed(place, other).states[-1].cpu() - end) / change
    return torch.zeros_like(end)


def best_changes(products: Tensor, damping: float) -> Tensor:
    """Changes (P,) of all numbers that make the mean distance foretold by `effects` smallest.

    Least squares of weights 1 / distance, again and again. damping: 0 for the smallest; the more,
    the shorter the way there.
    """
    distance = products[:, -1, -1].clamp(min=0).sqrt()
    nearest = NEAREST * distance.median().clamp(min=1e-12)
    changes = torch.zeros(products.shape[1] - 1, dtype=products.dtype)
    for _ in range(REWEIGHTED):
        total = (products / distance.clamp(min=nearest)[:, None, None]).sum(0)
        slopes, right = total[:-1, :-1], total[:-1, -1]
        own = slopes.diagonal()
        # The last part, so that numbers which change nothing, even all of them, stay as they are.
        kept_near = torch.diag(damping * own + 1e-12 * own.max().clamp(min=1e-12))
        changes = -torch.linalg.solve(slopes + kept_near, right)
        vector = torch.cat([changes, changes.new_ones(1)])
        distance = (products @ vector @ vector).clamp(min=0).sqrt()
    return changes


class Tried(NamedTuple):
    """A solver, and the mean distance of the pictures to fit by."""

    solver: FittedSolver
    distance: float


class Polish:
    """Rounds of such changes, each taken if it brings the pictures to fit by nearer in the mean.

    folder: where the solver of each round is kept, and found again.
    """

    def __init__(self, pictures: Pictures, fine: Fine, sets: Sets, folder: Path) -> None:
        self.pictures, self.ends, self.sets, self.folder = pictures, fine.ends, sets, folder

    def best(self, solver: FittedSolver, rounds: int) -> FittedSolver:
        """That of all rounds which is best on the pictures to choose by.

        Where uniform Euler of as many steps is better there, the rounds begin with that.
        """
        found = [with_all_slopes(self._chosen([solver, euler(solver.calls)]))]
        # Another search may have kept rounds here; these are of the noise levels that it found.
        name = hashlib.sha256(repr(found[0].sigmas).encode()).hexdigest()[:12]
        for number in range(rounds):
            file = self.folder / f"polish-{solver.calls}-{name}-{number}.json"
            found.append(self._kept_round(found[-1], number, file))
            if len(found) > SHARES and len(set(found[-1 - SHARES :])) == 1:
                break  # no share of the pictures knows a better one
        return self._chosen(found)

    def _chosen(self, solvers: list[FittedSolver]) -> FittedSolver:
        """The nearest in the mean, on the pictures to choose by."""
        different = dict.fromkeys(solvers)
        return min(different, key=lambda one: self._distance(one, self.sets.chosen))

    def _kept_round(self, solver: FittedSolver, number: int, file: Path) -> FittedSolver:
        kept = _read(file)
        if kept is not None:
            return kept
        better = self._round(solver, number)
        with atomic_write(file) as opened:
            opened.write(json.dumps([better.sigmas, better.weights]).encode())
        return better

    def _round(self, solver: FittedSolver, number: int) -> FittedSolver:
        """A better solver, or the same."""
        products = torch.cat(
            [
                effects(self.pictures, part, self.ends[part], solver)
                for part in self.pictures.parts(share(self.sets.fit, number))
            ]
        )
        best = Tried(solver, self._distance(solver, range(self.sets.fit)))
        for damping in DAMPINGS:
            tried = self._tried(solver, products, damping)
            if tried.distance >= best.distance:
                break
            best = tried
        for damping in HEAVIER if best.solver is solver else ():
            tried = self._tried(solver, products, damping)
            if tried.distance < best.distance:
                return tried.solver
        return best.solver

    def _tried(self, solver: FittedSolver, products: Tensor, damping: float) -> Tried:
        """The changed solver and how far its pictures are off; infinity if it is none."""
        changes = best_changes(products, damping).tolist()
        try:
            other = moved(solver, dict(zip(places(solver), changes, strict=True)))
            return Tried(other, self._distance(other, range(self.sets.fit)))
        except ValueError:  # levels that cross, or pictures that run away to infinity
            return Tried(solver, math.inf)

    def _distance(self, solver: FittedSolver, rows: range) -> float:
        """The mean distance of these pictures from the fine ones."""
        found = []
        for part in self.pictures.parts(rows):
            end = Run.of(self.pictures, part, solver).states[-1]
            found.append(distances(end.cpu(), self.ends[part]))
        return float(torch.cat(found).mean())


def share(count: int, number: int) -> range:
    """The pictures of `count` that a round asks."""
    length = -(-count // SHARES)  # rounded up: the last one has some of the one before again
    start = min(number % SHARES * length, count - length)
    return range(start, start + length)


def model_calls(calls: int, sets: Sets, rounds: int) -> int:
    """Calls for one picture each that the rounds of a solver of `calls` steps take at most."""
    weights = sum((calls - 1 - step) * min(step, MEMORY - 1) for step in range(calls))
    effects_of = calls + weights + calls * (calls - 1) // 2
    tried = (len(DAMPINGS) + 1) * calls * sets.fit
    chosen = (2 + rounds + 1) * calls * sets.choose
    return rounds * (effects_of * len(share(sets.fit, 0)) + tried) + chosen


def _read(file: Path) -> FittedSolver | None:
    """The solver in a file of a round; None where there is none that can be read."""
    try:
        sigmas, weights = json.loads(file.read_text())
        return FittedSolver(tuple(sigmas), tuple(map(tuple, weights)))
    except (OSError, ValueError, TypeError):
        return None
