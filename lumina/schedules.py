"""Schedules: the noise levels at which a run asks the model.

SCHEDULES[name](steps) gives sigmas, steps + 1 of them, falling from exactly 1 (noise) to exactly 0
(picture). Formulas are written for u, the share of the steps taken, called `done` in the code;
Lumina's time is t = 1 - sigma.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .parameters import Parameter

STEPS = Parameter(
    10,
    1,
    1000,
    "Steps from noise to picture. More of them draw details more exactly and take longer. The "
    "released code counts points: its 30 are 29 steps.",
)
DENOISE = Parameter(
    1.0,
    0.0,
    1.0,
    "Share of the way from noise to picture that is taken, in as many steps. 1 draws a new "
    "picture; lower keeps more of the given one; 0 changes nothing.",
    step=0.01,
)


LONGEST_COMPUTED = 2**20  # steps; of a longer run only the tail is computed
LONGEST_RUN = 2**31  # steps; a share of a longer one changes no picture


@dataclass(frozen=True)
class Schedule:
    """A family of sigmas and what a user should know of it.

    remaining(done, **parameters): sigma where the share `done` of the steps is taken. formula: the
    same on paper. use: when to choose it. source: paper or code. other_names: elsewhere.
    """

    remaining: Callable[..., Tensor]
    formula: str
    use: str
    source: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    other_names: str = ""

    def __call__(self, steps: int, **values: float) -> Tensor:
        """Sigmas (steps + 1,), float32, strictly falling from 1 to 0.

        Raises ValueError for less than one step, and for an unknown or illegal parameter.
        """
        if steps % 1 or steps < STEPS.low:
            raise ValueError(f"steps must be a whole number from {STEPS.low} up, got {steps}.")
        done = torch.linspace(0, 1, int(steps) + 1, dtype=torch.float64)
        return _strictly_falling(self.remaining(done, **self._complete(values)))

    def tail(self, total: int, steps: int, **values: float) -> Tensor:
        """The last steps + 1 sigmas of a run of `total` steps, without computing the others.

        Equal to those of the whole run. Raises ValueError for an unknown or illegal parameter.
        """
        done = 1 - torch.arange(steps, -1, -1, dtype=torch.float64) / total
        # With the start of the run before it: formulas divide by what they give there.
        done = torch.cat([done.new_zeros(1), done])
        return _strictly_falling(self.remaining(done, **self._complete(values)))[1:]

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
    denoise 0, or a share of more than LONGEST_RUN steps. Counted as ComfyUI's BasicScheduler
    counts. Raises ValueError as the schedule does, and for a number out of the limits of STEPS or
    DENOISE.
    """
    STEPS.check("steps", steps)
    DENOISE.check("denoise", denoise)
    if denoise < steps / LONGEST_RUN:
        return torch.zeros(0)
    total = int(steps / denoise)
    if total > LONGEST_COMPUTED:
        return schedule.tail(total, steps, **values)
    return schedule(total, **values)[-(steps + 1) :]


def _uniform(done: Tensor) -> Tensor:
    return 1 - done


def _rational(done: Tensor, shift: float) -> Tensor:
    return shift * (1 - done) / (done + shift * (1 - done))


def _sigmoid(done: Tensor, mu: float, alpha: float, beta: float) -> Tensor:
    """What is left of the area under the step length."""
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
    """1 - t, whose g falls where that of t rises."""
    slope = torch.where(done < mu, alpha, beta).to(done)
    falling = torch.sigmoid(-slope * (done - mu))
    return (falling - falling[-1]) / (falling[0] - falling[-1])


PAPER_SIGMOID = "Lumina-Next, arXiv:2406.18583, in name and with its values of mu, alpha and beta"

# At slope 50 the smallest sigma is about 1e-25: still a normal float32 number to divide by.
SIGMOID = {
    "mu": Parameter(
        0.6,
        0.0,
        1.0,
        "Where the steps are longest, as a share of the run. Higher puts more of them in the "
        "first, noisy part, where the layout is drawn. The paper's value is 0.6.",
        step=0.01,
        precision=0.001,
        is_advanced=True,
    ),
    "alpha": Parameter(
        6.0,
        0.1,
        50.0,
        "How steeply steps lengthen before mu. Higher makes the first ones shorter. The paper's "
        "value is 6.",
        step=0.1,
        precision=0.001,
        is_advanced=True,
    ),
    "beta": Parameter(
        20.0,
        0.1,
        50.0,
        "How steeply steps shorten after mu. Higher makes the last ones shorter. The paper's value "
        "is 20.",
        step=0.1,
        precision=0.001,
        is_advanced=True,
    ),
}
SHIFT = Parameter(
    4.0,
    0.01,
    100.0,
    "Above 1, more of the steps go to the first, noisy part, where the layout is drawn, and fewer "
    "to the details. 1 is uniform; 4 is the released demo's.",
    step=0.1,
    precision=0.001,
)

SCHEDULES = {
    "sigmoid": Schedule(
        _sigmoid,
        formula="t = P(u) / P(1), P the integral from 0 of the step length p; "
        "p(u) = 1 / (1 + exp(-alpha (u - mu))) up to mu, 1 / (1 + exp(beta (u - mu))) after it",
        use="short steps at both ends, from the paper; best with euler and bosh3.",
        source=f"{PAPER_SIGMOID}; the formula is our reading, measured best of two",
        parameters=SIGMOID,
    ),
    "uniform": Schedule(
        _uniform,
        formula="t = u",
        use="all steps alike; best with midpoint.",
        source="the released code with a time shift of 1",
        other_names="ComfyUI: simple, on a model with shift 1; diffusers: shift 1",
    ),
    "rational": Schedule(
        _rational,
        formula="t = u / (u + shift - shift u)",
        use="long steps at the end; for pictures like those of the released demo.",
        source="the released code; Stable Diffusion 3, arXiv:2403.03206",
        parameters={"shift": SHIFT},
        other_names="released code: time shift; ComfyUI: shift of ModelSamplingAuraFlow and "
        "ModelSamplingSD3; diffusers: shift of FlowMatchEulerDiscreteScheduler",
    ),
    "sigmoid_map": Schedule(
        _sigmoid_map,
        formula="t = (g(u) - g(0)) / (g(1) - g(0)), g(u) = 1 / (1 + exp(-k (u - mu))), "
        "k = alpha before mu, beta from it on",
        use="the other reading of the paper's sigmoid; to compare.",
        source=f"{PAPER_SIGMOID}; the formula is our second reading",
        parameters=SIGMOID,
    ),
}
