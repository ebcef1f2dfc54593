"""Axial rotary position embedding (RoPE) over any number of axes; two in Next-DiT.

Each axis has its own frequencies and an equal share of a head's channel pairs, which take the axes
in turn (row_0, column_0, row_1, column_1, ...), as the released checkpoints expect; positions start
at 0 in the top left corner. Lumina-Next, arXiv:2406.18583.

A rotation table holds one 2 x 2 matrix for each token and channel pair, (1, L, 1, head_dim / 2,
2, 2) in float32: the layout that ComfyUI's rotation kernels read.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Device = torch.device | str | None


def frequencies(
    head_dim: int,
    *,
    axes: int = 2,
    theta: float = 1e4,
    linear: float = 1.0,
    ntk: float = 1.0,
    device: Device = None,
) -> Tensor:
    """Angular frequencies of one of the `axes`, in radians per token: (head_dim / 2 / axes,).

    `linear` stretches every wavelength by that factor (position interpolation);
    `ntk` multiplies `theta`, which stretches long wavelengths most and the shortest not at all.
    Raises ValueError if the channel pairs of a head cannot be shared between the axes.
    """
    if head_dim % (2 * axes):
        raise ValueError(f"{axes}-D RoPE needs a head size divisible by {2 * axes}, got {head_dim}")
    exponent = torch.arange(0, head_dim, 2 * axes, dtype=torch.float32, device=device) / head_dim
    return 1.0 / ((theta * ntk) ** exponent) / linear


def positions(*lengths: int, start: int = 0, device: Device = None) -> list[Tensor]:
    """Where the tokens of a grid stand along each axis: start, start + 1, ..., as many as that."""
    return [
        torch.arange(start, start + length, dtype=torch.float32, device=device)
        for length in lengths
    ]


def rotation_table(
    positions: Sequence[Tensor], frequencies: Sequence[Tensor], device: Device = None
) -> Tensor:
    """Rotations of the tokens of a grid: (1, L, 1, head_dim / 2, 2, 2), float32.

    For each axis, where its tokens stand (N,), and its frequencies (head_dim / 2 / axes,). The
    grid's tokens are the combinations of all axes, the last one running fastest.
    """
    # Only these short rows travel to the device; the table is made there.
    pairs = zip(positions, frequencies, strict=True)
    angles = [position.to(device)[:, None] * frequency.to(device) for position, frequency in pairs]
    cos, sin = _on_grid([a.cos() for a in angles]), _on_grid([a.sin() for a in angles])
    matrices = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    return matrices[None, :, None]


def _on_grid(rows: Sequence[Tensor]) -> Tensor:
    """(N, F) of each axis at every token of their grid, the axes in turn: (L, axes * F)."""
    lengths = [len(row) for row in rows]
    spread = []
    for axis, row in enumerate(rows):
        later = [1] * (len(rows) - 1 - axis)
        spread.append(row.view(-1, *later, row.shape[-1]).expand(*lengths, -1))
    return torch.stack(spread, dim=-1).flatten(-2).flatten(0, -2)


def trained_table(lengths: Sequence[int], head_dim: int, device: Device = None) -> Tensor:
    """The table of the unscaled frequencies for a grid with so many tokens along each axis.

    Made anew for each call of a model: kept, it would hold 38 MB of a card at 4096 px, which
    nothing frees.
    """
    frequency = frequencies(head_dim, axes=len(lengths), device=device)
    grid = positions(*lengths, device=device)
    return rotation_table(grid, [frequency] * len(lengths), device)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each channel pair of `x` (B, L, heads, head_dim) by its token's rotation.

    A pair is two neighboring channels. Computed in float32, returned in the dtype of `x`.
    """
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # (B, L, heads, head_dim / 2)
    return torch.stack(_turned(first, second, table), dim=-1).flatten(-2).type_as(x)


def rotate_halves(x: Tensor, table: Tensor) -> Tensor:
    """`rotate` where channel i pairs with channel i + head_dim / 2, as in Gemma and LLaMA."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat(_turned(first, second, table), dim=-1).type_as(x)


def _turned(first: Tensor, second: Tensor, table: Tensor) -> list[Tensor]:
    return [row[..., 0] * first + row[..., 1] * second for row in table.unbind(-2)]
