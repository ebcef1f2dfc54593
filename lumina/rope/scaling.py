"""RoPE beyond the trained size: how position frequencies change with resolution and time.

For each axis s is the ratio of its tokens to the tokens it was trained with, L, and never below 1;
f_k = b^(-4k/d) are the trained frequencies of head size d with base b = 10,000. Time t runs from 0
(noise) to 1 (picture).

METHODS holds each way with its formula for the scaled frequencies f'. A user may choose `auto` as
well, the method that suits the model, or `none`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import PX_PER_TOKEN
from ..parameters import Parameter, check_fields
from . import rotation

THETA = 1e4
YARN_SLOW, YARN_FAST = 1.0, 32.0  # turns within L below which to interpolate, above which to keep
# Between 8 tokens a side, where `suited_to` was measured, and the 64 of the paper's 2B.
SMALL_GRID_TOKENS, LATE_WATERSHED = 32, 0.95

TRAINED_SIZE = Parameter(
    0,
    0,
    16384,
    "Side in pixels of the square pictures the model was trained on. 0: as the file says, or 1024. "
    "A smaller number scales more.",
    step=PX_PER_TOKEN,
    is_advanced=True,
)
PARAMETERS = {
    "watershed": Parameter(
        0.3,
        0.0,
        1.0,
        "Share of the way from noise to picture at which linear turns into ntk. Higher keeps the "
        "layout surer and the details softer.",
        step=0.01,
    ),
    "dype_scale": Parameter(
        2.0,
        0.0,
        8.0,
        "How strongly positions are scaled in noise. Higher scales more.",
        step=0.1,
    ),
    "dype_exponent": Parameter(
        2.0,
        0.0,
        8.0,
        "How early scaling fades. Higher fades earlier.",
        step=0.1,
    ),
}


@dataclass(frozen=True)
class Axis:
    """One axis of one forward pass: ratio s >= 1, trained tokens L, head size d, time t.

    axes: of how many it is one; an axis that is the only one runs along the tokens of all rows.
    """

    ratio: float
    trained_tokens: int
    head_dim: int
    t: float
    axes: int = 2

    def base(self, factor: float) -> Tensor:
        """Frequencies with the base multiplied by `factor`."""
        return rotation.frequencies(self.head_dim, axes=self.axes, theta=THETA, ntk=factor)

    @property
    def trained(self) -> Tensor:
        return self.base(1.0)

    @property
    def interpolated(self) -> Tensor:
        return self.trained / self.ratio


@dataclass(frozen=True)
class Scaling:
    """A method and its settings; those of other methods are not read.

    watershed: time at which `watershed` turns from linear to ntk, 0.3 in the released code.
    dype_scale, dype_exponent: `dype` uses s^(scale (1 - t)^exponent). dype_base: in DYPE_BASES.
    Raises ValueError for an unknown method or a setting out of range.
    """

    method: str = "time_aware"
    watershed: float = PARAMETERS["watershed"].default
    dype_scale: float = PARAMETERS["dype_scale"].default
    dype_exponent: float = PARAMETERS["dype_exponent"].default
    dype_base: str = "ntk"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f'unknown RoPE method "{self.method}", choose from {list(METHODS)}')
        check_fields(PARAMETERS, self)
        if self.dype_base not in DYPE_BASES:
            raise ValueError(f'dype works on {list(DYPE_BASES)}, got "{self.dype_base}"')

    @property
    def depends_on_time(self) -> bool:
        return METHODS[self.method].depends_on_time

    def frequencies(self, axis: Axis) -> Tensor:
        """Angular frequencies of `axis`, (head_dim / 4,) radians per token.

        At ratio 1 or less they are the trained ones, whatever the method.
        """
        if axis.ratio <= 1:
            return axis.trained
        return METHODS[self.method].scaled(axis, self)


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
    turns = axis.trained_tokens * axis.trained / (2 * math.pi)
    kept = ((turns - YARN_SLOW) / (YARN_FAST - YARN_SLOW)).clamp(0, 1)
    return torch.lerp(axis.interpolated, axis.trained, kept)


def dype(axis: Axis, scaling: Scaling) -> Tensor:
    power = scaling.dype_scale * (1 - axis.t) ** scaling.dype_exponent
    moved = replace(axis, ratio=axis.ratio**power)
    return DYPE_BASES[scaling.dype_base](moved, scaling)


DYPE_BASES: dict[str, Callable[[Axis, Scaling], Tensor]] = {"ntk": ntk, "yarn": yarn}


@dataclass(frozen=True)
class Method:
    """A way to scale frequencies, and what a user should know of it.

    scaled(axis, scaling): the frequencies of an axis of ratio above 1. formula: the same on paper.
    use: when to choose it. source: paper or code. settings: the fields of `Scaling` that it reads.
    serves_one_axis: whether it says anything of tokens that stand in one line, as in Flag-DiT.
    """

    scaled: Callable[[Axis, Scaling], Tensor]
    formula: str
    use: str
    source: str
    depends_on_time: bool = False
    serves_one_axis: bool = False
    settings: tuple[str, ...] = ()
    other_names: str = ""


METHODS = {
    "linear": Method(
        linear,
        formula="f' = f / s",
        use="stretches everything; layout right, details soft.",
        source="position interpolation, arXiv:2306.15595",
        serves_one_axis=True,
        other_names="diffusers: linear_factor",
    ),
    "ntk": Method(
        ntk,
        formula="f'_k = (b s)^(-4k/d)",
        use="keeps details, may repeat objects.",
        source="the released code, without its watershed",
        serves_one_axis=True,
        other_names="diffusers: ntk_factor",
    ),
    "frequency_aware": Method(
        frequency_aware,
        formula="f'_k = max(b'^(-4k/d), f / s), b' = b s^(d/m), m = d log_b(L / 2pi): ntk that "
        "reaches f / s at the wavelength L",
        use="between linear and ntk.",
        source="Lumina-Next, arXiv:2406.18583",
    ),
    "time_aware": Method(
        time_aware,
        formula="f'_k = max(b'^(-4k/d), f / s), b' = b s^(d/m), m = (d - 1) t + 1: linear at "
        "t = 0, ntk at t = 1",
        use="the paper's; linear for the layout, then ntk.",
        source="Lumina-Next, arXiv:2406.18583",
        depends_on_time=True,
    ),
    "watershed": Method(
        watershed,
        formula="linear for t < watershed, ntk from there on",
        use="the released code's switch from linear to ntk.",
        source="the released code, which calls it time-aware",
        depends_on_time=True,
        serves_one_axis=True,
        settings=("watershed",),
        other_names="diffusers: scaling_watershed",
    ),
    "yarn": Method(
        yarn,
        formula="f' = r f + (1 - r) f / s, r = (L f / 2pi - 1) / 31 within 0 to 1",
        use="stretches long wavelengths only.",
        source="NTK by parts, as in YaRN, arXiv:2309.00071",
    ),
    "dype": Method(
        dype,
        formula="ntk or yarn with s^(scale (1 - t)^exponent) in place of s",
        use="ntk or yarn, fading as the picture forms.",
        source="DyPE, arXiv:2510.20766",
        depends_on_time=True,
        settings=("dype_scale", "dype_exponent", "dype_base"),
    ),
}

AUTO, NONE = "auto", "none"
# What a user chooses from, and when.
CHOICES = {
    AUTO: f"time_aware, or watershed at {LATE_WATERSHED:g} for a model trained below "
    f"{SMALL_GRID_TOKENS * PX_PER_TOKEN} px; ntk for Lumina-T2I.",
    NONE: "positions as trained.",
    **{name: method.use for name, method in METHODS.items()},
}


def short_name(method: str, setting: str) -> str:
    """A setting as it is called within its method: `dype` calls its dype_scale scale."""
    return setting.removeprefix(f"{method}_")


def chosen_scaling(
    choice: str, trained_tokens: int, settings: Mapping[str, object], *, axes: int = 2
) -> Scaling | None:
    """What `choice`, one of CHOICES, means for a model trained with so many tokens along a side.

    settings: the method's own, by their short names. axes: of the model's RoPE; with one, `auto` is
    ntk by the ratio of the areas, as in the released code of Lumina-T2I. None leaves the positions
    as trained. Raises ValueError for a method that needs rows and columns where there is one axis.
    """
    if choice == AUTO:
        return suited_to(trained_tokens) if axes == 2 else Scaling("ntk")
    if choice == NONE:
        return None
    if axes == 1 and not METHODS[choice].serves_one_axis:
        serving = [name for name, method in METHODS.items() if method.serves_one_axis]
        raise ValueError(
            f'The method "{choice}" scales rows and columns, and the tokens of this model stand in '
            f"one line (Flag-DiT). Choose {AUTO}, {NONE}, {', '.join(serving)}."
        )
    fields = {short_name(choice, field): field for field in METHODS[choice].settings}
    given = {fields[name]: value for name, value in settings.items()}
    return Scaling(choice, **given)  # type: ignore[arg-type]  # which checks them itself
