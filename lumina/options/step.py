"""What one model call is about to compute, in tokens."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..rope import rotation


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
            return rotation.trained_table(*size, self.head_dim, self.device)
        frequency = rotation.frequencies(self.head_dim, device=self.device)
        return rotation.rotation_table_at(
            self.rows, self.columns, frequency, frequency, self.device
        )
