"""Captions inside the network: their padding masks as attention bias, and their masked mean.

Caption features are (B, S, D); a mask (B, S) has 1 for a token and 0 for padding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def padding_mask(mask: Tensor | None) -> Tensor | None:
    """The mask (B, S) if it masks any token, else None: attention without a mask is faster.

    Reads the values, so on an accelerator this waits for them: call it once per run or step,
    outside compiled code.
    """
    return None if mask is None or bool(mask.all()) else mask


def additive_mask(
    mask: Tensor | None, dtype: torch.dtype, lengths: Sequence[int] | None = None
) -> Tensor | None:
    """A mask (B, S) as attention bias (B, 1, 1, S): 0 for a token, the dtype's lowest for padding.

    lengths: tokens of each of several captions that follow each other. A caption without tokens
    hides nothing, as some kernels give NaN where everything is hidden. A bias, not booleans: some
    of ComfyUI's attention backends read booleans wrongly.
    """
    if mask is None:
        return None
    captions = (mask != 0).split(lengths or mask.shape[1], dim=1)
    hidden = torch.cat([~item & item.any(dim=1, keepdim=True) for item in captions], dim=1)
    return torch.zeros(hidden.shape, dtype=dtype, device=mask.device).masked_fill(
        hidden, torch.finfo(dtype).min
    )[:, None, None]


def masked_mean(caption: Tensor, mask: Tensor | None) -> Tensor:
    """Mean (B, D) over the unmasked tokens of `caption` (B, S, D), summed in float32.

    Zeros for a caption without tokens.
    """
    if mask is None:
        return caption.float().mean(dim=1).type_as(caption)
    weight = mask[..., None].float()
    total = (caption.float() * weight).sum(dim=1)
    return (total / weight.sum(dim=1).clamp(min=1)).type_as(caption)
