"""Caption rules of the released Lumina-Next models, and the masks that come from padding them.

A caption is at most 256 tokens of Gemma's vocabulary: begin-of-sequence, then text, no end token,
padded on the right. The features are the encoder's last hidden state but one, without its final
norm (Lumina-T2X, lumina_next_t2i/demo.py).
"""

import torch
from torch import Tensor


def padding_mask(mask: Tensor | None) -> Tensor | None:
    """The mask (B, S) itself if it hides any token, else None: attention without a mask is faster.

    Looks at the values, so on an accelerator this waits for them: call it once per run or step,
    outside compiled code.
    """
    return None if mask is None or bool(mask.all()) else mask


def additive_mask(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Mask (B, S), 1 for a token and 0 for padding, as attention bias (B, 1, 1, S): 0 or lowest.

    A bias, not booleans: some of ComfyUI's attention backends read booleans wrongly.
    """
    if mask is None:
        return None
    hidden = (mask == 0)[:, None, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=mask.device).masked_fill(
        hidden, torch.finfo(dtype).min
    )


def masked_mean(caption: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the tokens of (B, S, D) that `mask` (B, S) keeps: (B, D), summed in float32.

    A caption without a single token gives zeros.
    """
    if mask is None:
        return caption.float().mean(dim=1).type_as(caption)
    weight = mask[..., None].float()
    total = (caption.float() * weight).sum(dim=1)
    return (total / weight.sum(dim=1).clamp(min=1)).type_as(caption)
