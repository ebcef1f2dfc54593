"""Plans: complete choices of steps, schedule and solver. PRESETS are good ones, by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..schedules import SCHEDULES, STEPS, truncate
from .runge_kutta import model_calls


@dataclass(frozen=True)
class Plan:
    """How a run goes from noise to picture. steps: intervals, one fewer than sigmas.

    schedule, solver: names in SCHEDULES and SOLVERS. Raises ValueError for an illegal number of
    steps.
    """

    steps: int
    schedule: str
    solver: str
    schedule_parameters: Mapping[str, float] = field(default_factory=dict)
    solver_parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        STEPS.check("steps", self.steps)

    def sigmas(self, denoise: float = 1.0) -> Tensor:
        """(steps + 1,) from 1 to 0, or from below 1 where denoise is. See `schedules.truncate`."""
        schedule = SCHEDULES[self.schedule]
        return truncate(schedule, self.steps, denoise, **self.schedule_parameters)

    @property
    def model_calls(self) -> int | None:
        """None where they depend on the model."""
        return model_calls(self.solver, self.steps)

    @property
    def summary(self) -> str:
        """Such as "euler, sigmoid, 20 model calls"."""
        calls = "" if self.model_calls is None else f", {self.model_calls} model calls"
        return f"{self.solver}, {self.schedule}{calls}"


# The released demos ask for 30 points: 29 steps, of two model calls each.
# By demo/results/sampling.json: euler and bosh3 gain from the sigmoid, midpoint loses by it.
PRESETS = {
    "Fast": Plan(10, "sigmoid", "euler"),
    "Balanced": Plan(20, "sigmoid", "euler"),
    "Best": Plan(15, "sigmoid", "bosh3"),
    "As released": Plan(29, "rational", "midpoint", {"shift": 4.0}),
}
DEFAULT_PRESET = "Balanced"
