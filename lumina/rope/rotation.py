"""Axial 2-D rotary position embedding (RoPE) of Next-DiT.

Half of each head encodes the row, half the column. Channel pairs are interleaved
(row_0, column_0, row_1, column_1, ...), as the released checkpoints expect; positions start at
0 in the top left corner. Lumina-Next, arXiv:2406.18583.

A rotation table holds one 2 x 2 matrix for each token and channel pair, (1, L, 1, head_dim / 2,
2, 2) in float32: the layout that ComfyUI's own rotation kernels read.
"""

from functools import lru_cache

import torch
from torch import Tensor


def frequencies(
    head_dim: int,
    *,
    theta: float = 1e4,
    linear: float = 1.0,
    ntk: float = 1.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Angular frequency of each channel pair of one axis, in radians per token: (head_dim / 4,).

    `linear` stretches every wavelength by that factor (position interpolation);
    `ntk` multiplies `theta`, which stretches long wavelengths most and the shortest not at all.
    Raises ValueError if head_dim is not a multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"2-D RoPE needs a head size divisible by 4, got {head_dim}")
    exponent = torch.arange(0, head_dim, 4, dtype=torch.float32, device=device) / head_dim
    return 1.0 / ((theta * ntk) ** exponent) / linear


def _on_grid(rows: Tensor, columns: Tensor) -> Tensor:
    """(H, F) and (W, F) at every token, row and column in turn: (H * W, 2 * F)."""
    height, width = len(rows), len(columns)
    row = rows[:, None].expand(-1, width, -1)
    column = columns[None].expand(height, -1, -1)
    return torch.stack([row, column], dim=-1).flatten(2).flatten(0, 1)


def rotation_table(
    height: int,
    width: int,
    row_frequency: Tensor,
    column_frequency: Tensor,
    device: torch.device | str | None = None,
) -> Tensor:
    """Rotations for a grid of height x width tokens: (1, L, 1, head_dim / 2, 2, 2), float32.

    The frequencies are (head_dim / 4,) radians per token, one set for each axis.
    """
    rows = torch.arange(height, dtype=torch.float32, device=device)
    columns = torch.arange(width, dtype=torch.float32, device=device)
    return rotation_table_at(rows, columns, row_frequency, column_frequency, device)


def rotation_table_at(
    rows: Tensor,
    columns: Tensor,
    row_frequency: Tensor,
    column_frequency: Tensor,
    device: torch.device | str | None = None,
) -> Tensor:
    """`rotation_table` for tokens that stand elsewhere than at 0, 1, 2 ...: (H,) and (W,)."""
    # Only these short rows travel to the device; the table is made there.
    row = rows.to(device)[:, None] * row_frequency.to(device)
    column = columns.to(device)[:, None] * column_frequency.to(device)
    cos, sin = _on_grid(row.cos(), column.cos()), _on_grid(row.sin(), column.sin())
    matrices = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    return matrices[None, :, None]


@lru_cache(maxsize=2)
def trained_table(height: int, width: int, head_dim: int, device: torch.device) -> Tensor:
    """The table of the unscaled frequencies, kept for the last two sizes: 2 MB at 1024 px."""
    # A table made inside inference_mode could not take part in training later.
    with torch.inference_mode(False):
        frequency = frequencies(head_dim, device=device)
        return rotation_table(height, width, frequency, frequency, device)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each channel pair of `x` (B, L, heads, head_dim) by its token's rotation.

    Computed in float32, returned in the dtype of `x`.
    """
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # (B, L, heads, head_dim / 2)
    turned = [row[..., 0] * first + row[..., 1] * second for row in table.unbind(-2)]
    return torch.stack(turned, dim=-1).flatten(-2).type_as(x)
