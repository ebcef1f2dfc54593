"""How a model meets sizes it was not trained at: RoPE scaling and proportional attention."""

import math
from dataclasses import dataclass

from torch import Tensor

from ..rope.scaling import Axis, Scaling
from .step import Step


def proportional_scale(tokens: int, trained_tokens: int, head_dim: int) -> float:
    """Softmax scale that keeps self-attention as sharp at `tokens` as it was in training.

    sqrt(log(tokens) / log(trained_tokens) / head_dim); 1 / sqrt(head_dim) when they are equal.
    Raises ValueError if trained_tokens < 2. The released code's proportional attention.
    """
    if trained_tokens < 2:
        raise ValueError(f"trained_tokens must be at least 2, got {trained_tokens}")
    return math.sqrt(math.log(tokens) / math.log(trained_tokens) / head_dim)


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

    def ratios(self, frame: tuple[int, int], axes: int = 2) -> tuple[float, ...]:
        """Tokens over trained tokens, for rows and columns; for one axis that of the areas."""
        height, width = (side / self.trained_tokens for side in frame)
        if axes == 1:
            return (height * width,)
        return (math.sqrt(height * width),) * 2 if self.isotropic else (height, width)

    def rotation(self, step: Step) -> Tensor | None:
        """The call's RoPE table; None where the trained one serves."""
        ratios = self.ratios(step.frame, step.rope_axes)
        if self.scaling is None or max(ratios) <= 1:
            return None
        t = step.t if self.scaling.depends_on_time else 0.0
        size = step.head_dim, t, step.rope_axes
        axes = (Axis(ratio, self.trained_tokens, *size) for ratio in ratios)
        return step.rotation(*map(self.scaling.frequencies, axes))

    def attention_scale(self, step: Step) -> float | None:
        """The call's softmax scale; None for the usual one."""
        # As the released code counts, with one line end more in each row than there are.
        trained = self.trained_tokens * (self.trained_tokens + 2 * step.line_ends)
        tokens = step.tokens
        wanted = tokens > trained if self.proportional is None else self.proportional
        if not wanted or tokens == trained:
            return None
        # Never below the usual: fewer tokens than trained need no softer attention.
        scale = proportional_scale(tokens, trained, step.head_dim)
        return max(scale, step.head_dim**-0.5)
