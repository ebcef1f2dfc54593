"""Regions of a prompt on their way into the model: conds that the host batches, cuts and repeats.

The global caption and those of the regions travel as one sequence, with the lengths that divide it;
the regions' weights as pictures of the latent's size; their time ranges as sigmas.
"""

from collections.abc import Callable, Mapping, Sequence

import comfy.conds
import comfy.utils
import torch
from torch import Tensor

from ...lumina.options.regions import CaptionShares, acting
from ..options.regions import KEY, PromptedRegion
from .conditioning import (
    CaptionLengths,
    PaddedCaptions,
    PaddedSequence,
    RegionWeights,
    caption_mask,
    check_caption,
)

PER_SIGMA = 1_000_000  # ranges are integers, or the host rounds them to the model's dtype
CUT_OUT = (
    "The prompt has regions, and a node between model and sampler cuts the picture into parts "
    "without saying which part it computes, so that nobody knows where the regions lie in it. "
    "Remove that node, or the regions."
)


def regions_of(conditioning: Mapping[str, object], caption: Tensor) -> tuple[PromptedRegion, ...]:
    """The regions beside the global `caption` (B, S, D). Raises ValueError as `check_caption`."""
    regions = conditioning.get(KEY) or ()
    for region in regions:
        check_caption(region.caption, caption.shape[-1], region.settings)
    # "ConditioningZeroOut" zeros the one caption that it sees, and means the whole prompt.
    return regions if bool(caption.any()) else ()


def regional_conds(
    caption: Tensor,
    mask: Tensor | None,
    regions: Sequence[PromptedRegion],
    size: tuple[int, int],
    to_sigma: Callable[[float], float],
) -> dict[str, comfy.conds.CONDRegular]:
    """The conds of a global caption (B, S, D) with its mask and of its regions.

    size: rows and columns of the latent. to_sigma: from a share of the way to a noise level.
    """
    captions = [caption, *(region.caption.to(caption) for region in regions)]
    given = [mask, *(region.mask for region in regions)]
    # The mask stays on the CPU: `_apply_model` reads its values at every step.
    masks = [caption_mask(*pair) for pair in zip(captions, given, strict=True)]
    lengths = tuple(item.shape[1] for item in captions)
    weights = [region.region.weights(*size) for region in regions]
    ranges = [[_micro(to_sigma(end)) for end in region.range] for region in regions]
    return {
        "c_crossattn": PaddedCaptions(torch.cat(_of_one_batch(captions), dim=1), lengths),
        "attention_mask": PaddedCaptions(torch.cat(_of_one_batch(masks), dim=1), lengths),
        "caption_lengths": CaptionLengths(lengths),
        "region_weights": RegionWeights(
            torch.stack(_of_one_batch(weights), dim=1) if weights else torch.zeros(1, 0, *size)
        ),
        "region_ranges": PaddedSequence(
            torch.tensor(ranges, dtype=torch.long).reshape(1, len(regions), 2)
        ),
    }


def _micro(sigma: float) -> int:
    return round(sigma * PER_SIGMA)


def _of_one_batch(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors (N, ...) repeated to the most rows that one has, as the host repeats a prompt."""
    rows = max(len(item) for item in tensors)
    return [comfy.utils.repeat_to_batch_size(item, rows) for item in tensors]


def caption_shares(
    x: Tensor,
    sigma: Tensor,
    lengths: tuple[int, ...] | None,
    weights: Tensor | None,
    ranges: Tensor | None,
    *,
    patch_size: int,
    line_ends: int,
) -> CaptionShares | None:
    """What each token of a call reads, from what the host made of `regional_conds`.

    None without regions. Raises ValueError if the latent `x` (B, C, H, W) is another part of the
    picture than the weights (B, R, H, W).
    """
    if lengths is None or weights is None or ranges is None or not weights.shape[1]:
        return None
    if weights.shape[-2:] != x.shape[-2:]:
        raise ValueError(CUT_OUT)
    acts = acting(ranges.to(x.device) / PER_SIGMA, sigma.float())
    weights = weights.to(x.device) * acts[:, :, None, None]
    return CaptionShares.of(weights, lengths, patch_size=patch_size, line_ends=line_ends)
