"""What a user sets for a run, and what it means for each model call.

A `Step` describes one call; `RunSettings` turn it into that call's `ForwardOptions`. Nothing is
stored on a model: the settings are frozen and travel with the run.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from . import rope
from .context_drop import Cells, ContextDrop
from .options import ForwardOptions
from .resolution import Axis, Scaling


@dataclass(frozen=True, eq=False)
class Step:
    """What one model call is about to compute, in tokens.

    sigma (B,): 1 noise, 0 picture. rows (H,), columns (W,): where the tokens stand: 0, 1, 2 ... if
    `in_place`, elsewhere if the host's ScaleROPE moved them. frame: rows and columns of the whole
    picture, more than this call's own where conditioning is limited to an area.
    """

    sigma: Tensor
    rows: Tensor
    columns: Tensor
    frame: tuple[int, int]
    layers: int
    head_dim: int
    device: torch.device
    in_place: bool = True

    @cached_property
    def t(self) -> float:
        """Lumina's time, 0 noise, 1 picture. Waits for an accelerator: ask only when needed."""
        return 1.0 - float(self.sigma.flatten()[0])

    def trained_rotation(self) -> Tensor:
        """The RoPE table of the frequencies as trained, where the tokens stand."""
        if self.in_place:
            size = len(self.rows), len(self.columns)
            return rope.trained_table(*size, self.head_dim, self.device)
        frequency = rope.frequencies(self.head_dim, device=self.device)
        return rope.rotation_table_at(self.rows, self.columns, frequency, frequency, self.device)


@dataclass(frozen=True)
class Resolution:
    """How a model meets sizes it was not trained at; at and below that size it changes nothing.

    scaling: what RoPE does above the trained size; None leaves it. trained_tokens: along one side.
    isotropic: one ratio from the picture's area, as released, instead of one for each axis.
    proportional: proportional attention; None is on above the trained number of tokens only.
    Raises ValueError for a trained size of less than two tokens: nothing compares with it.
    """

    trained_tokens: int
    scaling: Scaling | None = None
    isotropic: bool = False
    proportional: bool | None = None

    def __post_init__(self) -> None:
        if self.trained_tokens < 2:
            raise ValueError(
                "The trained size must be at least 2 tokens (32 px) along a side, "
                f"got {self.trained_tokens}."
            )

    def ratios(self, frame: tuple[int, int]) -> tuple[float, float]:
        """Tokens over trained tokens, for rows and columns."""
        height, width = (side / self.trained_tokens for side in frame)
        return (math.sqrt(height * width),) * 2 if self.isotropic else (height, width)

    def rotation(self, step: Step) -> Tensor | None:
        """The call's RoPE table; None where the trained one serves."""
        ratios = self.ratios(step.frame)
        if self.scaling is None or max(ratios) <= 1:
            return None
        t = step.t if self.scaling.depends_on_time else 0.0
        rows, columns = (
            self.scaling.frequencies(Axis(ratio, self.trained_tokens, step.head_dim, t))
            for ratio in ratios
        )
        return rope.rotation_table_at(step.rows, step.columns, rows, columns, step.device)

    def attention_scale(self, step: Step) -> float | None:
        """The call's softmax scale; None for the usual one."""
        tokens, trained = len(step.rows) * len(step.columns), self.trained_tokens**2
        wanted = tokens > trained if self.proportional is None else self.proportional
        if not wanted or tokens == trained:
            return None
        # Never below the usual: fewer tokens than trained need no softer attention.
        scale = rope.proportional_scale(tokens, trained, step.head_dim)
        return max(scale, step.head_dim**-0.5)


@dataclass(frozen=True)
class RunSettings:
    """Everything a user may set on a MODEL; None is the model as trained."""

    resolution: Resolution | None = None
    context_drop: ContextDrop | None = None

    def forward_options(self, step: Step) -> ForwardOptions:
        rotation = scale = cells = None
        dropping: frozenset[int] = frozenset()
        if self.resolution is not None:
            rotation = self.resolution.rotation(step)
            scale = self.resolution.attention_scale(step)
        if self.context_drop is not None:
            dropping = self.context_drop.layers(step.t, step.layers)
        if dropping:
            cells = Cells(len(step.rows), len(step.columns), self.context_drop.factor)
        if rotation is None:
            rotation = step.trained_rotation()
        return ForwardOptions(rotation, scale, cells, dropping)
