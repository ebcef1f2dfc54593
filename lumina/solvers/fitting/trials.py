"""One try at the noise levels: the weights that fit them, and how far its pictures are off.

Each step is fitted from the solver's own states, not from the fine ones, so it corrects the errors
of the steps before it. A try that begins like another one takes over its first steps.
"""

from dataclasses import dataclass

from torch import Tensor

from ..fitted.solver import MEMORY, FittedSolver
from ..runge_kutta import weighted
from .pictures import Pictures, Sets, distances
from .points import Points
from .trajectories import FINE_SIGMAS, Fine
from .weights import step_weights, trusted


@dataclass(frozen=True)
class Trial:
    """states, slopes: of the pictures to fit and to choose by, at each point, in float32."""

    points: Points
    weights: tuple[tuple[float, ...], ...]
    states: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]

    @property
    def solver(self) -> FittedSolver:
        return FittedSolver(tuple(FINE_SIGMAS[point] for point in self.points), self.weights)

    def calls_to(self, points: Points) -> int:
        """How often the model is called for each picture to try `points`, beginning with this."""
        return len(points) - 1 - min(_common_length(points, self.points), len(self.slopes))

    def score(self, fine: Fine, sets: Sets) -> float:
        """The mean error of the pictures to choose by; lower is better."""
        chosen = slice(sets.chosen.start, sets.chosen.stop)
        off = distances(self.states[-1][chosen].cpu(), fine.ends[chosen])
        return float(off.mean())


def attempt(
    points: Points, pictures: Pictures, fine: Fine, sets: Sets, like: Trial | None
) -> Trial:
    """Fit the steps between these points; those that `like` begins with are taken from it."""
    if like is None:
        start = pictures.noise[: sets.drawn.stop].float()
        like = Trial(points[:1], (), (start,), ())
    shared = _common_length(points, like.points)
    states, weights = list(like.states[:shared]), list(like.weights[: shared - 1])
    slopes = list(like.slopes[:shared])
    for step in range(shared - 1, len(points) - 1):
        sigma, end = FINE_SIGMAS[points[step]], FINE_SIGMAS[points[step + 1]]
        if step == len(slopes):
            slopes.append(pictures.slopes(states[step], sigma))
        used, x = slopes[: step + 1][-MEMORY:], states[step]
        target = fine.states[:, points[step + 1]].to(x)
        change = (target - x[: sets.fit]) / (end - sigma)
        off = distances(x[: sets.fit], fine.states[:, points[step]].to(x))
        row = step_weights([slope[: sets.fit] for slope in used], change, trusted(off))
        weights.append(row)
        states.append(x + weighted(row, used, end - sigma))
    return Trial(points, tuple(weights), tuple(states), tuple(slopes))


def _common_length(points: Points, others: Points) -> int:
    shared = 0
    for one, other in zip(points, others, strict=False):
        if one != other:
            break
        shared += 1
    return shared
