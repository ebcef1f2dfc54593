"""Several captions in one picture, each in a region of its own, in one forward pass.

The captions follow each other along the token axis, the picture's global one first. Cross-attention
of an image token reads each caption by itself, and the results are averaged by the token's shares:
the weights of the regions there, and for the global caption what they leave of 1. So a token of
one region reads its caption as if there were no other. Self-attention sees the whole picture, and
time and the global caption's mean scale the layers, as in the released compositional code. That
adds where regions overlap, and lets tokens outside all of them read nothing.

Shares weigh what was read, not attention's scores: there a long caption would outweigh a short one
wherever they overlap, whatever the weights say.

Axes: B batch, R regions, L image tokens, S caption tokens, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..parameters import Parameter, check_fields

BOX = {
    "x": Parameter(
        0.0, 0.0, 1.0, "Left edge of the box, as a share of the picture's width.", step=0.01
    ),
    "y": Parameter(
        0.0, 0.0, 1.0, "Top edge of the box, as a share of the picture's height.", step=0.01
    ),
    "width": Parameter(
        0.5,
        0.01,
        1.0,
        "Width of the box, as a share of the picture's. What is beyond its edge is cut off.",
        step=0.01,
    ),
    "height": Parameter(
        0.5,
        0.01,
        1.0,
        "Height of the box, as a share of the picture's. What is beyond its edge is cut off.",
        step=0.01,
    ),
}
FEATHER = Parameter(
    0.0,
    0.0,
    1.0,
    "How wide the edge fades into what is beside it, as a share of the picture's shorter side. "
    "0 is a hard edge; higher blends more.",
    step=0.01,
)
PARAMETERS = {
    "weight": Parameter(
        1.0,
        0.0,
        10.0,
        "How much the region's prompt counts. Below 1 the global prompt gets the rest. Above 1 it "
        "outweighs the regions that overlap it.",
        step=0.05,
    ),
    "feather": FEATHER,
    "start": Parameter(
        0.0,
        0.0,
        1.0,
        "Share of the way from noise to picture at which the region begins; before, the global "
        "prompt acts in its place.",
        step=0.01,
        precision=0.001,
        is_advanced=True,
    ),
    "end": Parameter(
        1.0,
        0.0,
        1.0,
        "Share of the way from noise to picture at which the region ends; after, the global "
        "prompt acts in its place.",
        step=0.01,
        precision=0.001,
        is_advanced=True,
    ),
}
GRID = {
    "rows": Parameter(2, 1, 16, "How many cells stand below each other."),
    "columns": Parameter(2, 1, 16, "How many cells stand beside each other."),
}
MOST_REGIONS = 256  # the largest grid's


@dataclass(frozen=True)
class Box:
    """A rectangle, its sides in shares of the picture's.

    Raises ValueError for a side out of range, and for a box outside the picture.
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        check_fields(BOX, self)
        if self.x >= 1 or self.y >= 1:
            raise ValueError(
                f"The box lies outside the picture: it begins at x {self.x:g} and y {self.y:g}, "
                "and the picture ends at 1. Lower them."
            )

    def mask(self, height: int, width: int) -> Tensor:
        """How much of each place of a picture of height x width it covers: (1, height, width)."""
        down = _covered(self.y, self.y + self.height, height)
        across = _covered(self.x, self.x + self.width, width)
        return (down[:, None] * across)[None]


def _covered(start: float, end: float, count: int) -> Tensor:
    """How much of each of `count` equal parts of 0 to 1 lies between start and end: (count,)."""
    edges = torch.arange(count + 1, dtype=torch.float64)
    inside = edges.clamp(start * count, min(end, 1.0) * count)
    # Else rounding of thirds leaves a share of 1e-16 in the next part.
    return inside.diff().mul(1e6).round().div(1e6).float()


def grid(rows: int, columns: int) -> list[Box]:
    """The cells of a grid, row by row from the top left. Raises ValueError for too many or none."""
    for name, count in (("rows", rows), ("columns", columns)):
        GRID[name].check(name, count)
    height, width = 1 / rows, 1 / columns
    return [Box(x * width, y * height, width, height) for y in range(rows) for x in range(columns)]


@dataclass(frozen=True, eq=False)
class Region:
    """Where a caption acts, how much and when.

    area: a box, or a mask (N, h, w) of any size from 0 to 1 with one picture for each of a batch,
    or one for all. start, end: in shares of the way from noise to picture. Raises ValueError for
    an empty mask, a setting out of range, and a start that is not before the end.
    """

    area: Box | Tensor
    weight: float = PARAMETERS["weight"].default
    feather: float = FEATHER.default
    start: float = PARAMETERS["start"].default
    end: float = PARAMETERS["end"].default

    def __post_init__(self) -> None:
        check_fields(PARAMETERS, self)
        if self.start >= self.end:
            raise ValueError(
                f"A region's start must be before its end; got start {self.start:g} and end "
                f"{self.end:g}."
            )
        if isinstance(self.area, Tensor):
            check_mask(self.area)

    def weights(self, height: int, width: int) -> Tensor:
        """Its weight at each place of a picture of height x width: (N, height, width) float32."""
        if isinstance(self.area, Box):
            mask = self.area.mask(height, width)
        else:
            mask = F.interpolate(self.area[:, None].float().cpu(), (height, width), mode="area")
            mask = mask[:, 0].clamp(0, 1)
        return self.weight * feathered(mask, round(self.feather * min(height, width) / 2))


def check_mask(mask: Tensor) -> None:
    """Raise ValueError for a mask that is none (N, h, w), is empty, or holds no numbers."""
    if mask.ndim != 3 or not mask.numel():
        raise ValueError(
            f"A region's mask has the shape {tuple(mask.shape)}; a MASK has pictures, rows and "
            "columns."
        )
    if not bool(torch.isfinite(mask).all()):
        raise ValueError("A region's mask holds values that are no numbers (NaN or infinite).")
    if not bool((mask.amax(dim=(1, 2)) > 0).all()):
        raise ValueError(
            "A region's mask is empty: all of it is 0, so that its prompt would act nowhere. "
            "Paint the place where the prompt should act."
        )


def feathered(mask: Tensor, radius: int) -> Tensor:
    """A mask (N, H, W) whose edges are ramps, `radius` wide to either side.

    The mean over a square: of masks that fill the picture without overlap, the sum stays 1.
    """
    if radius < 1:
        return mask
    padded = F.pad(mask[:, None], [radius] * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)[:, 0]


def acting(ranges: Tensor, sigma: Tensor) -> Tensor:
    """1 where a region acts at `sigma` (B,), else 0: (B, R), of ranges (B, R, 2).

    A range is the sigma from which and down to which it acts, the latter left out unless it is 0.
    """
    sigma, start, end = sigma[:, None].to(ranges.device), ranges[..., 0], ranges[..., 1]
    return ((sigma <= start) & ((sigma > end) | (end <= 0))).float()


@dataclass(frozen=True, eq=False)
class CaptionShares:
    """Which caption each image token reads, and how much of it.

    lengths: tokens of each caption, the global one's first, in the order in which they follow each
    other. shares (B, 1 + R, L): of each caption in what a token reads; they sum to 1.
    """

    lengths: tuple[int, ...]
    shares: Tensor

    @classmethod
    def of(
        cls, weights: Tensor, lengths: Sequence[int], *, patch_size: int = 2, line_ends: int = 0
    ) -> "CaptionShares":
        """From weights (B, R, H, W) of the regions over a latent, 0 where one does not act.

        line_ends: 1 where a token that is no part of the picture ends each row; it reads what the
        last token of the row does.
        """
        regions = F.avg_pool2d(weights.float(), patch_size, ceil_mode=True, count_include_pad=False)
        rest = (1 - regions.sum(dim=1, keepdim=True)).clamp(min=0)
        shares = torch.cat([rest, regions], dim=1)
        shares = shares / shares.sum(dim=1, keepdim=True)
        if line_ends:
            shares = F.pad(shares, (0, line_ends, 0, 0), mode="replicate")
        return cls(tuple(lengths), shares.flatten(2))

    def check(self, caption: Tensor) -> None:
        """Raise ValueError unless `caption` (B, S, ...) is as long as the captions together."""
        if caption.shape[1] != sum(self.lengths):
            raise ValueError(
                f"The captions of the regions have {sum(self.lengths)} tokens together, and "
                f"{caption.shape[1]} came. A node between prompt and sampler changes them."
            )

    def of_global(self, x: Tensor) -> Tensor:
        """The global caption's part of features or mask (B, S, ...)."""
        return x[:, : self.lengths[0]]

    def captions(
        self, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """For each caption its shares (B, 1, L, 1), keys, values and mask.

        k, v (B, heads, S, head_dim), mask (B, 1, 1, S) of all captions.
        """
        masks = [None] * len(self.lengths) if mask is None else mask.split(self.lengths, dim=-1)
        parts = k.split(self.lengths, dim=2), v.split(self.lengths, dim=2), masks
        shares = self.shares[:, :, None, :, None].to(k).unbind(dim=1)
        yield from zip(shares, *parts, strict=True)
