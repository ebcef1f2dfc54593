"""Latent pictures to rows of patch features and back.

The two directions differ on purpose: the released models read a patch channel by channel
(c, y, x) and write it pixel by pixel (y, x, c).
"""

from torch import Tensor


def patchify(x: Tensor, size: int) -> Tensor:
    """Cut (B, C, H, W) into (B, L, C * size * size), L = H / size * W / size, row by row."""
    batch, channels, height, width = x.shape
    if height % size or width % size:
        raise ValueError(f"latent of {height} x {width} cannot be cut into {size} x {size} patches")
    x = x.reshape(batch, channels, height // size, size, width // size, size)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * size * size)


def unpatchify(tokens: Tensor, height: int, width: int, size: int) -> Tensor:
    """Join (B, height * width, size * size * C) into (B, C, height * size, width * size)."""
    batch = tokens.shape[0]
    x = tokens.reshape(batch, height, width, size, size, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, height * size, width * size)
