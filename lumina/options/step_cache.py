"""TeaCache: steps that skip the layers where the picture hardly changes between them.

Before the layers run, what the first one reads is compared with the step before. A polynomial makes
of that how much the layers' result changes; while the sum stays below a threshold, what the layers
added last time is added again. TeaCache, arXiv:2411.19108; its coefficients for Lumina-Next were
fitted by its authors to the released 2B.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor

from ..config import NEXT_DIT_2B, DiTConfig
from ..parameters import Parameter, check_fields

Method = TypeVar("Method", bound=Callable[..., object])

# Of the fourth power first: relative change of what the first layer reads, to that of the result.
COEFFICIENTS = (393.76566581, -603.50993606, 209.10239044, -23.00726601, 0.86377344)
# Where the polynomial is highest. Beyond it falls, and below zero: nothing was fitted there.
LARGEST_DIFFERENCE = 0.21
FITTED_LAYERS, FITTED_DIM = NEXT_DIT_2B.layers, NEXT_DIT_2B.dim

PARAMETERS = {
    "threshold": Parameter(
        0.3,
        0.0,
        3.0,
        "How much the layers' result may change, in sum, before they run again; 1 is as much as "
        "the result itself. Higher skips more steps and loses more. 0 skips none.",
        step=0.05,
        precision=0.01,
    ),
    "start": Parameter(
        1.0,
        0.0,
        1.0,
        "Noise level (sigma, 1 noise to 0 picture) from which steps may be skipped. Lower computes "
        "all of the first steps, which settle the layout.",
        step=0.01,
        is_advanced=True,
    ),
    "end": Parameter(
        0.0,
        0.0,
        1.0,
        "Noise level (sigma, 1 noise to 0 picture) down to which steps may be skipped. Higher "
        "computes all of the last steps, which draw the details.",
        step=0.01,
        is_advanced=True,
    ),
}


@dataclass(frozen=True)
class StepCache:
    """When steps may be skipped.

    threshold: the sum of estimated changes from which the layers run again; 0 skips nothing. start,
    end: sigma from which and down to which. Raises ValueError for a setting out of range, and for a
    start below the end.
    """

    threshold: float = PARAMETERS["threshold"].default
    start: float = PARAMETERS["start"].default
    end: float = PARAMETERS["end"].default

    def __post_init__(self) -> None:
        check_fields(PARAMETERS, self)
        if self.end > self.start:
            raise ValueError(
                f"TeaCache starts at a higher sigma than it ends, both from 1 (noise) to 0 "
                f"(picture); got start {self.start:g} and end {self.end:g}."
            )

    def may_skip(self, sigma: float, last: float) -> bool:
        """Whether a call at `sigma` may be skipped; `last`: the sigma where the last step begins.

        The last step is always computed, as the authors do.
        """
        return self.end <= sigma <= self.start and sigma > last


def check_fitted(config: DiTConfig) -> None:
    """Raise ValueError for a network whose first layer does not read what TeaCache compares."""
    if config.rope_axes != NEXT_DIT_2B.rope_axes:
        raise ValueError(
            f"TeaCache's coefficients were fitted to Lumina-Next, and this MODEL is a "
            f"{config.network}. Use EasyCache, which needs none."
        )


def notice_of(config: DiTConfig) -> str | None:
    """What to tell of a Next-DiT of another size than the coefficients were fitted to."""
    if (config.layers, config.dim) == (FITTED_LAYERS, FITTED_DIM):
        return None
    return (
        f"TeaCache's coefficients were fitted to Lumina-Next 2B ({FITTED_LAYERS} layers, width "
        f"{FITTED_DIM}). This MODEL has {config.layers} layers and width {config.dim}: how much a "
        "threshold skips and loses is not known for it."
    )


def estimated_change(difference: float) -> float:
    """The result's relative change from that of what the first layer reads; infinite if unknown."""
    if not difference <= LARGEST_DIFFERENCE:
        return math.inf
    change = 0.0
    for coefficient in COEFFICIENTS:
        change = change * difference + coefficient
    return change


def _uncompiled(method: Method) -> Method:
    """A method that torch.compile leaves alone: it decides by numbers that only a run gives."""
    return cast(Method, torch.compiler.disable(method))


@dataclass
class Branch:
    """What is kept of one prompt's last calls: tensors (B, L, D), and the sum of changes."""

    read: Tensor
    added: Tensor
    change: float = 0.0


class StepMemory:
    """What one run remembers from call to call, for each prompt by itself. Ends with the run."""

    def __init__(self, settings: StepCache) -> None:
        self.settings = settings
        self.branches: dict[Hashable, Branch] = {}
        self.calls = self.skipped = 0

    def call(self, prompts: Sequence[Hashable], sigma: float, last: float) -> "CachedCall":
        """A model call at `sigma` whose batch has as many equal parts as `prompts`."""
        return CachedCall(self, tuple(prompts), self.settings.may_skip(sigma, last))


@dataclass(frozen=True, eq=False)
class CachedCall:
    """One model call of a run. It is skipped as a whole or not at all."""

    memory: StepMemory
    prompts: tuple[Hashable, ...]
    may_skip: bool

    def tokens(self, x: Tensor, read: Tensor, layers: Callable[[], Tensor]) -> Tensor:
        """What the layers make of their input `x` (B, L, D), computed or as it was added last.

        read (B, L, D): what the first layer reads of it. layers(): computes it.
        """
        added = self.remembered(read)
        if added is not None:
            return x + added
        out = layers()
        self.remember(out - x, read)
        return out

    @_uncompiled
    def remembered(self, read: Tensor) -> Tensor | None:
        """What the layers added last, for all prompts; None if they must run."""
        memory = self.memory
        memory.calls += 1
        parts = dict(zip(self.prompts, read.chunk(len(self.prompts)), strict=True))
        branches = {prompt: memory.branches.get(prompt) for prompt in parts}
        if not self.may_skip or not all(
            branch is not None and branch.read.shape == parts[prompt].shape
            for prompt, branch in branches.items()
        ):
            return None
        known = [branch for branch in branches.values() if branch is not None]
        differences = [
            _difference(part, branch.read)
            for part, branch in zip(parts.values(), known, strict=True)
        ]
        for branch, part, difference in zip(
            known, parts.values(), torch.stack(differences).tolist(), strict=True
        ):
            branch.change += estimated_change(difference)
            branch.read = part
        if max(branch.change for branch in known) >= memory.settings.threshold:
            return None
        memory.skipped += 1
        return torch.cat([branch.added for branch in known])

    @_uncompiled
    def remember(self, added: Tensor, read: Tensor) -> None:
        """Keep what the layers added, for all prompts."""
        count = len(self.prompts)
        parts = zip(self.prompts, read.chunk(count), added.chunk(count), strict=True)
        for prompt, part_read, part_added in parts:
            self.memory.branches[prompt] = Branch(part_read, part_added)


def _difference(now: Tensor, before: Tensor) -> Tensor:
    """Mean change relative to the mean size, as a tensor of no axes."""
    return (now - before).abs().mean(dtype=torch.float32) / before.abs().mean(dtype=torch.float32)
