"""The pictures that a fit draws: their noise, the model that draws them, and three sets of them.

A model answers for a few of them at once: `Pictures` hands it one part after another.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..runge_kutta import Callback, Solver

# denoised (n, C, H, W) of the pictures in a slice of rows, from x (n, C, H, W) and sigma (n,)
Answer = Callable[[slice, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Sets:
    """How many pictures fit the weights, choose the noise levels, and report the errors.

    They stand one after another. What is reported took no part in the fit.
    """

    fit: int
    choose: int
    report: int

    @property
    def drawn(self) -> range:
        """The pictures that each try draws: those to fit and to choose by."""
        return range(self.fit + self.choose)

    @property
    def chosen(self) -> range:
        return range(self.fit, self.fit + self.choose)

    @property
    def reported(self) -> range:
        return range(self.fit + self.choose, self.total)

    @property
    def total(self) -> int:
        return self.fit + self.choose + self.report


@dataclass
class Pictures:
    """noise: (N, C, H, W) of all pictures. batch: how many the model is asked for at once.

    tick(n) hears of n pictures for which the model was called once; what it raises stops the fit.
    """

    noise: Tensor
    answer: Answer
    batch: int
    tick: Callable[[int], None] = field(default=lambda pictures: None)

    def parts(self, rows: range) -> Iterator[slice]:
        """The rows in slices of at most a batch."""
        for start in range(rows.start, rows.stop, self.batch):
            yield slice(start, min(start + self.batch, rows.stop))

    def slopes(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dsigma (n, C, H, W) of the first n pictures at `x`."""
        parts = self.parts(range(len(x)))
        return torch.cat([self.slope(part, x[part], sigma) for part in parts])

    def slope(self, part: slice, x: Tensor, sigma: float) -> Tensor:
        """dx/dsigma (n, C, H, W) of the pictures in a part at `x`."""
        return (x - self._ask(part, x, x.new_full((len(x),), sigma))) / sigma

    def drawn(
        self, part: slice, solver: Solver, sigmas: Tensor, callback: Callback | None = None
    ) -> Tensor:
        """The latents that a solver draws of the pictures in a part."""

        def model(x: Tensor, sigma: Tensor) -> Tensor:
            return self._ask(part, x, sigma)

        return solver(model, self.noise[part], sigmas, callback=callback, disable=True)

    def _ask(self, part: slice, x: Tensor, sigma: Tensor) -> Tensor:
        denoised = self.answer(part, x, sigma)
        self.tick(len(x))
        if not bool(denoised.isfinite().all()):
            raise ValueError(
                f"The model gives no numbers (NaN) at sigma {float(sigma[0]):.3g}: no solver can "
                "be fitted to it. Draw a picture with it first."
            )
        return denoised


def distances(latents: Tensor, truth: Tensor) -> Tensor:
    """Root mean square distance (N,) of each picture from the fine solution."""
    return (latents - truth).flatten(1).square().mean(1).sqrt()
