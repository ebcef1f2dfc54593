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
    than this call's own where conditioning is limited to an area.
    """

    sigma: Tensor
    rows: Tensor
    columns: Tensor
    frame: tuple[int, int]
    layers: int
    head_dim: int
    device: torch.device

    @cached_property
    def t(self) -> float:
        """Lumina's time, 0 noise, 1 picture. Waits for an accelerator: ask only when needed."""
        return 1.0 - float(self.sigma.flatten()[0])

    def trained_rotation(self) -> Tensor:
        """The RoPE table of the frequencies as trained, where the tokens stand."""
        return self.rotation(*[rope.frequencies(self.head_dim, device=self.device)] * 2)

    def rotation(self, row_frequencies: Tensor, column_frequencies: Tensor) -> Tensor:
        """The RoPE table of these frequencies (head_dim / 4,), where the tokens stand."""
        frequencies = row_frequencies, column_frequencies
        return rope.rotation_table((self.rows, self.columns), frequencies, self.device)
