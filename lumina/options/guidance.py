"""What may follow classifier-free guidance: channels left out of it, bounds on its strength.

Tensors are velocities (B, C, H, W), picture minus noise; every rule treats each picture of a batch
by itself. `on_channels` serves denoised pictures as well. Lumina-Next guides three of its four
latent channels (`forward_with_cfg` of the released code).
"""

import torch
from torch import Tensor

RELEASED_CHANNELS = 3


def on_channels(guided: Tensor, conditional: Tensor, count: int) -> Tensor:
    """Guidance on the first `count` channels; the rest as the prompt alone predicts them."""
    return torch.cat([guided[:, :count], conditional[:, count:]], dim=1)


def renormalized(guided: Tensor, conditional: Tensor, limit: float) -> Tensor:
    """`guided` shortened where it is longer than `limit` times `conditional` (CFG renorm).

    Length is that of a picture's whole velocity. Lumina-Image 2.0's demo uses limit 1.
    """
    longest = limit * _length(conditional)
    return guided * (longest / _length(guided).clamp(min=1e-12)).clamp(max=1)


def rescaled(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """`guided` with a `share` of its spread brought back to that of `conditional`.

    Against colors that strong guidance burns (arXiv:2305.08891, section 3.4).
    """
    ratio = _spread(conditional) / _spread(guided).clamp(min=1e-12)
    return guided * torch.lerp(torch.ones_like(ratio), ratio, share)


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.float(), dim=(1, 2, 3), keepdim=True).to(x)


def _spread(x: Tensor) -> Tensor:
    return x.float().std(dim=(1, 2, 3), keepdim=True).to(x)
