"""RoPE beyond the trained size: how position frequencies change with resolution and time.

For each axis s is the ratio of its tokens to the tokens it was trained with, L, and never below 1;
f_k = b^(-4k/d) are the trained frequencies of head size d with base b = 10,000. Time t runs from 0
(noise) to 1 (picture).

linear            f / s: position interpolation
ntk               base b * s: the fine frequencies stay, the coarse ones stretch
frequency_aware   ntk that reaches f / s at the wavelength L, no frequency below f / s
time_aware        the paper's: linear at t = 0, turning into ntk at t = 1
watershed         the released code's: linear before a time, ntk from there on
yarn              f where a wavelength is far shorter than L, f / s where it is longer
dype              ntk or yarn whose s shrinks to 1 as the picture forms

Lumina-Next, arXiv:2406.18583; NTK by parts as in YaRN, arXiv:2309.00071;
DyPE, arXiv:2510.20766.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import rotation

THETA = 1e4
YARN_SLOW, YARN_FAST = 1.0, 32.0  # turns within L below which to interpolate, above which to keep
# Between 8 tokens a side, where `suited_to` was measured, and the 64 of the paper's 2B.
SMALL_GRID_TOKENS, LATE_WATERSHED = 32, 0.95


@dataclass(frozen=True)
class Axis:
    """One axis of one forward pass: ratio s >= 1, trained tokens L, head size d, time t."""

    ratio: float
    trained_tokens: int
    head_dim: int
    t: float

    def base(self, factor: float) -> Tensor:
        """Frequencies with the base multiplied by `factor`."""
        return rotation.frequencies(self.head_dim, theta=THETA, ntk=factor)

    @property
    def interpolated(self) -> Tensor:
        return rotation.frequencies(self.head_dim, theta=THETA, linear=self.ratio)


@dataclass(frozen=True)
class Scaling:
    """A method and its settings; those of other methods are not read.

    watershed: time at which `watershed` turns from linear to ntk, 0.3 in the released code.
    dype_scale, dype_exponent: `dype` uses s^(scale * (1 - t)^exponent). dype_base: "ntk" or "yarn".
    Raises ValueError for an unknown method or a setting out of range.
    """

    method: str = "time_aware"
    watershed: float = 0.3
    dype_scale: float = 2.0
    dype_exponent: float = 2.0
    dype_base: str = "ntk"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f'unknown RoPE method "{self.method}", choose from {list(METHODS)}')
        if not 0 <= self.watershed <= 1:
            raise ValueError(f"watershed is a time from 0 to 1, got {self.watershed}")
        if self.dype_base not in DYPE_BASES:
            raise ValueError(f'dype works on {list(DYPE_BASES)}, got "{self.dype_base}"')
        if min(self.dype_scale, self.dype_exponent) < 0:
            raise ValueError("dype_scale and dype_exponent must not be negative")

    @property
    def depends_on_time(self) -> bool:
        return self.method in ("time_aware", "watershed", "dype")

    def frequencies(self, axis: Axis) -> Tensor:
        """Angular frequencies of `axis`, (head_dim / 4,) radians per token.

        At ratio 1 or less they are the trained ones, whatever the method.
        """
        if axis.ratio <= 1:
            return rotation.frequencies(axis.head_dim, theta=THETA)
        return METHODS[self.method](axis, self)


def suited_to(trained_tokens: int) -> Scaling:
    """The scaling for a model trained with so many tokens along a side.

    The paper's `time_aware` for large grids. A model of a small grid settles its layout late: at
    twice its 8 tokens the demo model had every object once and in place in 62 % of pictures by
    `watershed` at 0.95, in 46 % by `linear` and in none by `time_aware`, which has turned to ntk by
    then (demo/results/resolution.json).
    """
    if trained_tokens < SMALL_GRID_TOKENS:
        return Scaling("watershed", watershed=LATE_WATERSHED)
    return Scaling("time_aware")


def linear(axis: Axis, scaling: Scaling) -> Tensor:
    return axis.interpolated


def ntk(axis: Axis, scaling: Scaling) -> Tensor:
    return axis.base(axis.ratio)


def frequency_aware(axis: Axis, scaling: Scaling) -> Tensor:
    turning = axis.head_dim * math.log(axis.trained_tokens / (2 * math.pi), THETA)
    if turning <= 0:  # trained on so few tokens that no wavelength fits: all are interpolated
        return axis.interpolated
    return _stretched(axis, turning)


def time_aware(axis: Axis, scaling: Scaling) -> Tensor:
    return _stretched(axis, (axis.head_dim - 1) * axis.t + 1)


def _stretched(axis: Axis, turning: float) -> Tensor:
    """Base b * s^(d / turning), which meets f / s at channel `turning`; none falls below f / s."""
    # s^(d / turning) overflows a float for large s and small turning; max() takes f / s there.
    power = min(axis.head_dim / turning * math.log(axis.ratio), 600.0)
    return torch.maximum(axis.base(math.exp(power)), axis.interpolated)


def watershed(axis: Axis, scaling: Scaling) -> Tensor:
    return axis.interpolated if axis.t < scaling.watershed else axis.base(axis.ratio)


def yarn(axis: Axis, scaling: Scaling) -> Tensor:
    trained = rotation.frequencies(axis.head_dim, theta=THETA)
    turns = axis.trained_tokens * trained / (2 * math.pi)
    kept = ((turns - YARN_SLOW) / (YARN_FAST - YARN_SLOW)).clamp(0, 1)
    return torch.lerp(axis.interpolated, trained, kept)


def dype(axis: Axis, scaling: Scaling) -> Tensor:
    power = scaling.dype_scale * (1 - axis.t) ** scaling.dype_exponent
    moved = Axis(axis.ratio**power, axis.trained_tokens, axis.head_dim, axis.t)
    return DYPE_BASES[scaling.dype_base](moved, scaling)


DYPE_BASES: dict[str, Callable[[Axis, Scaling], Tensor]] = {"ntk": ntk, "yarn": yarn}
METHODS: dict[str, Callable[[Axis, Scaling], Tensor]] = {
    "linear": linear,
    "ntk": ntk,
    "frequency_aware": frequency_aware,
    "time_aware": time_aware,
    "watershed": watershed,
    "yarn": yarn,
    "dype": dype,
}
