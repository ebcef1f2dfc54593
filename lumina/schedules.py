"""Schedules: the noise levels at which a run asks the model.

SCHEDULES[name](steps) gives sigmas, steps + 1 of them, falling from exactly 1 (noise) to exactly 0
(picture). The formulas are written for `done`, the share of steps taken; t = 1 - sigma.

rational is the time shift of Lumina-Next's released code. The paper (arXiv:2406.18583) also has a
sigmoid schedule with the parameters below, in name only; both readings of it are here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Parameter:
    """A number that bends a schedule: its default and its legal range, ends included."""

    default: float
    low: float
    high: float

    def check(self, name: str, value: float) -> None:
        """Raise ValueError for a value out of range."""
        if not self.low <= value <= self.high:
            raise ValueError(f"{name} must be from {self.low:g} to {self.high:g}, got {value}.")


@dataclass(frozen=True)
class Schedule:
    """A family of sigmas. `remaining(done, **parameters)`: sigma where `done` of the steps are."""

    remaining: Callable[..., Tensor]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __call__(self, steps: int, **values: float) -> Tensor:
        """Sigmas (steps + 1,), float32, strictly falling from 1 to 0.

        Raises ValueError for less than one step, and for an unknown or illegal parameter.
        """
        if steps != int(steps) or steps < 1:
            raise ValueError(f"steps must be a whole number from 1 up, got {steps}.")
        done = torch.linspace(0, 1, int(steps) + 1, dtype=torch.float64)
        return _strictly_falling(self.remaining(done, **self._complete(values)))

    def _complete(self, values: Mapping[str, float]) -> dict[str, float]:
        for name, value in values.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ValueError(f"{name} is no parameter of this schedule; it has: {known}.")
            self.parameters[name].check(name, value)
        return {name: item.default for name, item in self.parameters.items()} | dict(values)


def _strictly_falling(sigmas: Tensor) -> Tensor:
    """float32 with the ends exact; where rounding made neighbors equal, the next smaller number.

    The bits of positive floats, read as integers, keep their order: with its index added, a
    strictly falling sequence is one that never rises.
    """
    sigmas = sigmas.float()
    sigmas[0], sigmas[-1] = 1.0, 0.0
    index = torch.arange(len(sigmas), dtype=torch.int32)
    bits = (sigmas.view(torch.int32) + index).cummin(0).values - index
    return bits.view(torch.float32)


def truncate(schedule: Schedule, steps: int, denoise: float, **values: float) -> Tensor:
    """The last `steps` steps of a run long enough for them to be its share `denoise`.

    Sigmas (steps + 1,) that start below 1 where denoise does, and end at 0; none at all for
    denoise 0. Counted as ComfyUI's BasicScheduler counts. Raises ValueError as the schedule does.
    """
    if not 0 <= denoise <= 1:
        raise ValueError(f"denoise must be from 0 to 1, got {denoise}.")
    if denoise == 0:
        return torch.zeros(0)
    return schedule(int(steps / denoise), **values)[-(steps + 1) :]


def _uniform(done: Tensor) -> Tensor:
    return 1 - done


def _rational(done: Tensor, shift: float) -> Tensor:
    """t = done / (done + shift - shift * done): the released time shift and ComfyUI's `shift`."""
    return shift * (1 - done) / (done + shift * (1 - done))


def _sigmoid(done: Tensor, mu: float, alpha: float, beta: float) -> Tensor:
    """Step lengths follow a profile: logistic rise of slope alpha up to mu, fall of slope beta.

    t is the integral of the profile from 0 to `done`, over the whole; sigma is what is left.
    """
    left = _area_left(done, mu, alpha, beta)
    return left / left[0]


def _area_left(done: Tensor, mu: float, alpha: float, beta: float) -> Tensor:
    """Integral from `done` to 1 of 1 / (1 + exp(-alpha (u - mu))), past mu 1 / (1 + exp(beta ...)).

    Not as a difference from the whole, which would leave nothing of a thin tail near 1.
    """
    rise = math.log(2) - _softplus(alpha * (done.clamp(max=mu) - mu))
    tail = done.new_tensor(-beta * (1 - mu))
    fall = _softplus(-beta * (done.clamp(min=mu) - mu)) - _softplus(tail)
    return rise / alpha + fall / beta


def _softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))  # log(1 + exp(x)), exact for any x


def _sigmoid_map(done: Tensor, mu: float, alpha: float, beta: float) -> Tensor:
    """t itself follows the logistic curve of slope alpha up to mu and beta past it, made 0 to 1."""
    slope = torch.where(done < mu, alpha, beta).to(done)
    falling = torch.sigmoid(-slope * (done - mu))
    return (falling - falling[-1]) / (falling[0] - falling[-1])


# At slope 50 the smallest sigma is about 1e-25: still a normal float32 number to divide by.
SIGMOID = {
    "mu": Parameter(0.6, 0.0, 1.0),
    "alpha": Parameter(6.0, 0.1, 50.0),
    "beta": Parameter(20.0, 0.1, 50.0),
}

SCHEDULES = {
    "sigmoid": Schedule(_sigmoid, SIGMOID),
    "uniform": Schedule(_uniform),
    "rational": Schedule(_rational, {"shift": Parameter(4.0, 0.01, 100.0)}),
    "sigmoid_map": Schedule(_sigmoid_map, SIGMOID),
}
