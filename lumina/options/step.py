"""What one model call is about to compute, in tokens."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .. import rope


@dataclass(frozen=True, eq=False)
class Step:
    """What one model call is about to compute, in tokens.

    sigma (B,): 1 noise, 0 picture. rows (H,), columns (W,): where the tokens stand: 0, 1, 2 ...,
    elsewhere if the host's ScaleROPE moved them. frame: rows and columns of the whole picture, more
    than this call's own where conditioning is limited to an area. rope_axes: 2, or 1 where tokens
    stand in one line, each row with a line end behind it.
    """

    sigma: Tensor
    rows: Tensor
    columns: Tensor
    frame: tuple[int, int]
    layers: int
    head_dim: int
    device: torch.device
    rope_axes: int = 2

    @property
    def tokens(self) -> int:
        """How many tokens attend to each other, line ends included."""
        return len(self.rows) * (len(self.columns) + self.line_ends)

    @property
    def line_ends(self) -> int:
        """How many of them stand behind each row."""
        return 2 - self.rope_axes

    @cached_property
    def t(self) -> float:
        """Lumina's time, 0 noise, 1 picture. Waits for an accelerator: ask only when needed."""
        return 1.0 - float(self.sigma.flatten()[0])

    def trained_rotation(self) -> Tensor:
        """The RoPE table of the frequencies as trained, where the tokens stand."""
        frequency = rope.frequencies(self.head_dim, axes=self.rope_axes, device=self.device)
        return self.rotation(*[frequency] * self.rope_axes)

    def rotation(self, *frequencies: Tensor) -> Tensor:
        """The RoPE table of each axis's frequencies, where the tokens stand."""
        axes = (self.rows, self.columns) if self.rope_axes == 2 else rope.positions(self.tokens)
        return rope.rotation_table(axes, frequencies, self.device)
