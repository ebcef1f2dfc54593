"""Context drop: self-attention over fewer keys and values early in sampling.

Keys and values are averaged over cells of r x r tokens of the grid; queries stay whole, so that
every token is still written. At t = 0 (noise) every layer drops, at the end of the range none,
and in between the share of dropping layers falls linearly. Lumina-Next, arXiv:2406.18583; no
released code has it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import PX_PER_TOKEN
from ..parameters import Parameter, check_fields

ORDERS = ("first", "last", "spread")
PARAMETERS = {
    "factor": Parameter(
        2,
        1,
        8,
        f"Side of the averaged cells, in tokens of {PX_PER_TOKEN} px. 2 leaves a quarter of the "
        "tokens to look at; higher is faster and loses more. 1 changes nothing.",
    ),
    "until": Parameter(
        0.5,
        0.01,
        1.0,
        "Share of the way from noise to picture at which the last layer stops dropping. Higher is "
        "faster and may cost detail.",
        step=0.01,
    ),
}


@dataclass(frozen=True)
class ContextDrop:
    """Which layers drop by how much, and when.

    factor: r, tokens along a cell's side; 1 drops nothing. until: time t from which no layer drops.
    order: which layers drop longest: the first, the last, or ones spread evenly.
    Raises ValueError for a setting out of range.
    """

    factor: int = int(PARAMETERS["factor"].default)
    until: float = PARAMETERS["until"].default
    order: str = "first"

    def __post_init__(self) -> None:
        check_fields(PARAMETERS, self)
        if self.order not in ORDERS:
            raise ValueError(f'context drop orders layers {ORDERS}, got "{self.order}"')

    def layers(self, t: float, count: int) -> frozenset[int]:
        """The layers of `count` that drop at time `t`."""
        dropping = round(count * max(0.0, 1 - t / self.until))
        if self.factor == 1 or dropping == 0:
            return frozenset()
        if self.order == "spread":
            return frozenset(i * count // dropping for i in range(dropping))
        first = 0 if self.order == "first" else count - dropping
        return frozenset(range(first, first + dropping))


class DroppingLayers:
    """Those of a network's `count` layers that drop in one call, as a set and as a tensor of it.

    torch compiles the members of a set into a network, another one for each set. It leaves to the
    run what a tensor holds. flags (count,): True where a layer drops, on the CPU, since code that
    branches by them would wait for an accelerator.

    No dataclass: torch up to 2.7 compiles all fields of a frozen one into a network, used or not.
    """

    def __init__(self, indices: frozenset[int], count: int) -> None:
        self.indices = indices
        self.flags = torch.tensor([index in indices for index in range(count)])

    def __contains__(self, index: int) -> bool:
        return index in self.indices


@dataclass(frozen=True)
class Cells:
    """The grid of one forward pass cut into cells of factor x factor tokens.

    line_ends: 1 where a token that is no part of the picture ends each row; it stays as it is.

    Keys are averaged after rotation, each at its own position, so that a cell needs none. Measured
    on the demo model, averaging first and rotating to the middle of the cell makes no difference
    in what 40 pictures show (benchmarks/results/pooling.json).
    """

    height: int
    width: int
    factor: int
    line_ends: int = 0

    def pooled(self, x: Tensor) -> Tensor:
        """Mean of each cell of `x` (B, heads, height * width, C): (B, heads, cells, C).

        Cells at the right and bottom edge may be smaller. Line ends, if any, follow the cells.
        """
        if self.line_ends:
            rows = x.unflatten(2, (self.height, self.width + self.line_ends))
            cells = self._pooled(rows[:, :, :, : self.width].flatten(2, 3))
            return torch.cat([cells, rows[:, :, :, self.width :].flatten(2, 3)], dim=2)
        return self._pooled(x)

    def _pooled(self, x: Tensor) -> Tensor:
        grid = x.transpose(-1, -2).unflatten(-1, (self.height, self.width))
        cells = F.avg_pool2d(
            grid.flatten(0, 1), self.factor, ceil_mode=True, count_include_pad=False
        )
        pooled = cells.flatten(2).transpose(-1, -2).unflatten(0, x.shape[:2])
        # Else torch's attention falls back to its slow form, which keeps all scores in memory:
        # 1.5 s in place of 0.1 s for one layer at 1024 px.
        return pooled.contiguous()
