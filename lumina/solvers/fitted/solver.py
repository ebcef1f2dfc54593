"""A solver fitted to one model: noise levels of its own, and for each step weights of its own.

From sigma s_i to s_(i+1) a step takes the weighted sum of the last slopes of the run,

    x_(i+1) = x_i + (s_(i+1) - s_i) * sum_j w_ij v_j,    v_j = (x_j - denoised_j) / s_j,

where j goes over at most MEMORY slopes, the current one last. `lumina.solvers.fitting` finds the
noise levels and the weights. The form is that of non-stationary solvers (arXiv:2403.01329).

The weights of a step sum to 1, so straight paths stay straight, whatever the weights: a pixel that
a noise mask protects comes out exactly as it was given.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import trange

from ..runge_kutta import Callback, Model, Slope, first_slope, tell, weighted, wide_state

logger = logging.getLogger(__name__)

MEMORY = 4  # slopes a step may use; more of them gained nothing in what was measured
MAX_CALLS = 100
MAX_WEIGHT = 100.0  # fitted ones are between -3 and 4
NEAR = 1e-3  # sigmas so close are the same: some hosts keep them in half precision


@dataclass(frozen=True)
class FittedSolver:
    """The numbers of a fitted solver. It is called as k-diffusion's samplers are.

    sigmas: (calls + 1), from 1 down to 0. weights: for each step those of the last slopes, oldest
    first, as many as the run has had by then but at most MEMORY. Raises ValueError for numbers that
    are no such solver.
    """

    sigmas: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        _check_sigmas(self.sigmas)
        if len(self.weights) != self.calls:
            raise ValueError(
                f"{self.calls} steps need as many rows of weights, not {len(self.weights)}"
            )
        for step, row in enumerate(self.weights):
            _check_weights(step, row)

    @property
    def calls(self) -> int:
        """Model calls of a whole run, one each step."""
        return len(self.sigmas) - 1

    def tail(self, denoise: float) -> Tensor:
        """The sigmas of a run that takes the share `denoise` of the way, (steps + 1,) or none.

        It starts at the solver's noise level nearest to `denoise`, so a smaller share takes fewer
        steps; none at all for a share nearer to 0 than to the last level.
        """
        start = min(range(len(self.sigmas)), key=lambda i: abs(self.sigmas[i] - denoise))
        left = self.sigmas[start:] if start < self.calls else ()
        return torch.tensor(left, dtype=torch.float32)

    @torch.no_grad()
    def __call__(
        self,
        model: Model,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, object] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        """The picture at the last of `sigmas`, from `x` at the first, in the dtype of `x`.

        sigmas: this solver's, or a part of them without gaps: a run may start later, as for
        denoise below 1, or end earlier. A step whose weights need slopes from before the start is
        Euler's. Raises ValueError for other sigmas.
        """
        grid = sigmas.tolist()
        if len(grid) < 2:
            return x
        first = self._position(grid)
        slope, state, slopes = Slope(model, extra_args), wide_state(x), list[Tensor]()
        for i in trange(len(grid) - 1, disable=disable):
            start, end = self.sigmas[first + i], self.sigmas[first + i + 1]
            slopes = [*slopes[1 - MEMORY :], first_slope(slope, state, start, end)]
            tell(callback, state, i, sigmas[i], slope.denoised)
            row = self.weights[first + i]
            row = row if len(row) <= len(slopes) else (1.0,)
            state = state + weighted(row, slopes[-len(row) :], end - start)
        logger.info("fitted: %d steps, %d model calls", len(grid) - 1, slope.calls)
        return state.to(x.dtype)

    def _position(self, grid: list[float]) -> int:
        """Where in this solver's sigmas those of a run begin. Raises ValueError if nowhere."""
        for start in range(len(self.sigmas) - len(grid) + 1):
            part = self.sigmas[start : start + len(grid)]
            if all(abs(a - b) <= NEAR for a, b in zip(part, grid, strict=True)):
                return start
        raise ValueError(
            f"The fitted solver has {len(self.sigmas)} noise levels of its own, "
            f"{_listed(self.sigmas)}, and was given {len(grid)} others, {_listed(grid)}. Connect "
            "the SIGMAS of the node that its SAMPLER comes from."
        )


def _check_sigmas(sigmas: tuple[float, ...]) -> None:
    if not 2 <= len(sigmas) <= MAX_CALLS + 1:
        raise ValueError(f"{len(sigmas)} noise levels, where 2 to {MAX_CALLS + 1} belong")
    falls = all(a - b > 2 * NEAR for a, b in zip(sigmas, sigmas[1:], strict=False))
    if sigmas[0] != 1 or sigmas[-1] != 0 or not falls:
        raise ValueError("noise levels that do not fall from 1 to 0, step by step")


def _check_weights(step: int, row: tuple[float, ...]) -> None:
    if not 1 <= len(row) <= min(step + 1, MEMORY):
        raise ValueError(
            f"{len(row)} weights in step {step + 1}, where 1 to {min(step + 1, MEMORY)} belong"
        )
    if not all(abs(weight) <= MAX_WEIGHT for weight in row):  # NaN is not, either
        raise ValueError(
            f"a weight in step {step + 1} that is not from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        )
    if not math.isclose(sum(row), 1, abs_tol=1e-6):
        raise ValueError(f"weights in step {step + 1} that sum to {sum(row):g}, not to 1")


def _listed(sigmas: tuple[float, ...] | list[float]) -> str:
    shown = [f"{sigma:.3g}" for sigma in sigmas]
    return ", ".join(shown if len(shown) <= 4 else [*shown[:2], "...", *shown[-2:]])
