"""Solvers of the flow ODE, in the form of k-diffusion's sampling functions.

SOLVERS[name](model, x, sigmas, extra_args, callback, disable) carries the latent `x` (B, C, H, W)
along `sigmas`: 1 noise, 0 picture. model(x, sigma (B,), **extra_args) returns the denoised picture,
so the slope dx/dsigma is (x - denoised) / sigma. One step is an explicit Runge-Kutta rule of
`tableaus`, which also says what help() shows of a solver.
"""

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm, trange

from ..parameters import Parameter
from .tableaus import TABLEAUS, ButcherTableau

logger = logging.getLogger(__name__)

Model = Callable[..., Tensor]
Callback = Callable[[dict[str, object]], None]


class Solver(Protocol):
    """The picture at the last of `sigmas`, from `x` at the first, in the dtype of `x`.

    sigmas: (steps + 1,). callback hears of each step in a dict with x, i, sigma, sigma_hat and
    denoised. disable: no progress bar in the console.
    """

    def __call__(
        self,
        model: Model,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, object] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
    ) -> Tensor: ...


# One step


class Slope:
    """dx/dsigma by the model. Counts its calls and keeps the last denoised picture."""

    def __init__(self, model: Model, extra_args: Mapping[str, object] | None) -> None:
        self.model, self.extra_args = model, extra_args or {}
        self.calls = 0
        self.denoised: Tensor  # there from the first call on

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        sigmas = x.new_full((len(x),), sigma)
        self.denoised = self.model(x, sigmas, **self.extra_args)
        self.calls += 1
        # Divided by a tensor, as the host's samplers do: GPUs divide by a number less exactly.
        return (x - self.denoised) / sigmas.reshape(-1, *[1] * (x.ndim - 1))


def smallest_sigma(start: float, end: float, dtype: torch.dtype) -> float:
    """Where a stage of the step is evaluated that would fall on a smaller sigma, above all on 0.

    The slope there is 0 / 0. Nearer to 0, rounding of `denoised` spoils the slope; farther, it is
    the slope of another place: the root of the dtype's precision balances both. At most 1/100 of
    the step, which rounding then never enters with more than 100 times its size.
    """
    return min(math.sqrt(torch.finfo(dtype).eps), abs(end - start) / 100)


def stage_slopes(
    tableau: ButcherTableau, slope: Slope, x: Tensor, start: float, end: float, first: Tensor
) -> list[Tensor]:
    """The slopes of all stages on the step from `x` at sigma `start` to `end`; `first` is given."""
    slopes, smallest = [first], smallest_sigma(start, end, x.dtype)
    for c, row in tableau.later_stages:
        sigma = start + c * (end - start)
        share = 1.0
        if sigma < smallest:
            # x stops short together with sigma: straight paths, such as those of pixels that a
            # noise mask protects, stay exact.
            share = (smallest - start) / (sigma - start)
            sigma = smallest
        slopes.append(slope(x + weighted(row, slopes, share * (end - start)), sigma))
    return slopes


def first_slope(slope: Slope, x: Tensor, start: float, end: float) -> Tensor:
    """The slope at the start of the step, not below `smallest_sigma`."""
    return slope(x, max(start, smallest_sigma(start, end, x.dtype)))


def weighted(weights: Sequence[float], slopes: Sequence[Tensor], step: float) -> Tensor:
    """The sum of slopes times weights times the step; slopes of weight 0 are left out."""
    pairs = zip(weights, slopes, strict=True)
    return reduce(torch.add, (slope * (weight * step) for weight, slope in pairs if weight))


def wide_state(x: Tensor) -> Tensor:
    """`x` in at least float32: rounding a state to half precision at every step adds up."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


# Solvers


def fixed_grid(name: str, tableau: ButcherTableau) -> Solver:
    """The solver that takes one step of `tableau` from each sigma to the next."""

    @torch.no_grad()
    def sample(
        model: Model,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, object] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        """Takes one step from each of `sigmas` to the next."""
        slope, state, grid = Slope(model, extra_args), wide_state(x), sigmas.tolist()
        for i in trange(len(grid) - 1, disable=disable):
            start, end = grid[i], grid[i + 1]
            first = first_slope(slope, state, start, end)
            tell(callback, state, i, sigmas[i], slope.denoised)
            slopes = stage_slopes(tableau, slope, state, start, end, first)
            state = state + weighted(tableau.weights, slopes, end - start)
        logger.info("%s: %d steps, %d model calls", name, max(len(grid) - 1, 0), slope.calls)
        return state.to(x.dtype)

    sample.__name__ = sample.__qualname__ = f"sample_{name}"
    return _documented(sample, tableau)


def _documented(solver: Solver, tableau: ButcherTableau) -> Solver:
    solver.__doc__ = f"{inspect.cleandoc(solver.__doc__ or '')}\n\n{tableau.description}"
    return solver


def tell(callback: Callback | None, x: Tensor, i: int, sigma: Tensor, denoised: Tensor) -> None:
    """What k-diffusion's callbacks are told of step i."""
    if callback is not None:
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})


DOPRI5 = TABLEAUS["dopri5"]
# The defaults of both tolerances are the released code's.
RTOL = Parameter(
    1e-3,
    1e-6,
    1.0,
    "Error allowed in one step, as a share of the picture's values. Higher is faster and coarser.",
    step=1e-4,
    precision=1e-6,
)
ATOL = Parameter(
    1e-6,
    1e-7,
    1.0,
    "Error allowed in one step on top of rtol's, in latent units (noise has spread 1). Higher is "
    "faster and coarser.",
    step=1e-6,
    precision=1e-7,
    is_advanced=True,
)
MAX_STEPS = Parameter(
    200,
    1,
    10000,
    f"Steps, of {DOPRI5.calls_per_step} model calls each, after which it gives up with an error. "
    "Higher lets it work longer.",
    is_advanced=True,
)


@torch.no_grad()
def sample_dopri5(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Mapping[str, object] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    rtol: float = RTOL.default,
    atol: float = ATOL.default,
    max_steps: int = int(MAX_STEPS.default),
) -> Tensor:
    """Chooses its own steps between the end sigmas.

    The estimated error of a step stays below atol + rtol * |x|, root mean square over each picture.
    `sigmas` between the ends give only the first step and the progress. callback hears of each step
    when it is done, with what was reached. Raises RuntimeError if `max_steps` steps, those retaken
    for their error included, miss the end, and ValueError for a tolerance that is not above 0, or
    no steps at all.
    """
    if not (rtol > 0 and atol > 0 and max_steps >= 1):
        raise ValueError(
            f"dopri5 needs rtol and atol above 0 and at least one step; got rtol {rtol:g}, atol "
            f"{atol:g} and max_steps {max_steps}."
        )
    slope, state, grid = Slope(model, extra_args), wide_state(x), sigmas.tolist()
    if len(grid) < 2:
        return x
    sigma, step = grid[0], grid[1] - grid[0]
    first = first_slope(slope, state, sigma, sigma + step)
    with tqdm(total=len(grid) - 1, disable=disable) as bar:
        for attempt in range(1, max_steps + 1):
            target = _next_sigma(sigma, step, grid[-1])
            step = target - sigma
            new, last, ratio = _attempt(slope, state, sigma, target, first, rtol, atol)
            if ratio <= 1:
                state, sigma, first = new, target, last
                index = _intervals_reached(sigma, grid)
                tell(callback, state, index, sigmas.new_tensor(sigma), slope.denoised)
                bar.update(index + 1 - bar.n)
            if sigma == grid[-1]:
                logger.info("dopri5: %d steps, %d model calls", attempt, slope.calls)
                return state.to(x.dtype)
            step *= min(10.0, max(0.2, 0.9 * max(ratio, 1e-10) ** -0.2))
    raise RuntimeError(
        f"dopri5 has taken {max_steps} steps ({slope.calls} model calls) and is at sigma "
        f"{sigma:.4g} on its way from {grid[0]:.4g} to {grid[-1]:.4g}. Raise max_steps, or allow "
        f"longer steps with a larger rtol (now {rtol:g}) or atol (now {atol:g})."
    )


def _attempt(
    slope: Slope,
    x: Tensor,
    sigma: float,
    target: float,
    first: Tensor,
    rtol: float,
    atol: float,
) -> tuple[Tensor, Tensor, float]:
    """One step of DOPRI5: x at `target`, the slope there, and its error over the tolerance."""
    slopes = stage_slopes(DOPRI5, slope, x, sigma, target, first)
    new = x + weighted(DOPRI5.weights, slopes, target - sigma)
    error = weighted(DOPRI5.error_weights, slopes, target - sigma)
    tolerance = atol + rtol * torch.maximum(x.abs(), new.abs())
    # The worst picture of the batch counts: none hides its error behind the others.
    ratio = (error / tolerance).flatten(1).square().mean(1).sqrt().max().item()
    if math.isnan(ratio):
        raise RuntimeError(f"dopri5: the model gives no numbers (NaN) near sigma {sigma:.4g}.")
    return new, slopes[-1], ratio


def _next_sigma(sigma: float, step: float, end: float) -> float:
    """Where the step leads: not past the end, nor so close before it that a sliver remains."""
    return end if abs(step) * 1.01 >= abs(end - sigma) else sigma + step


def _intervals_reached(sigma: float, grid: Sequence[float]) -> int:
    """Index of the interval of `grid` that ends at or holds `sigma`."""
    direction = math.copysign(1.0, grid[-1] - grid[0])
    return sum((sigma - point) * direction > 0 for point in grid[1:-1])


FIXED = {name: tableau for name, tableau in TABLEAUS.items() if not tableau.is_adaptive}
SOLVERS: dict[str, Solver] = {
    **{name: fixed_grid(name, tableau) for name, tableau in FIXED.items()},
    "dopri5": _documented(sample_dopri5, DOPRI5),
}
PARAMETERS: dict[str, dict[str, Parameter]] = {name: {} for name in SOLVERS} | {
    "dopri5": {"rtol": RTOL, "atol": ATOL, "max_steps": MAX_STEPS}
}


def model_calls(name: str, steps: int) -> int | None:
    """How often solver `name` asks the model in so many steps; None where it depends on the model.

    With guidance one call is a batch of two for each picture. Raises KeyError for another name.
    """
    tableau = TABLEAUS[name]
    return None if tableau.is_adaptive else tableau.calls_per_step * steps
