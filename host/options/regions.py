"""Regions on a CONDITIONING: prompts that each act in a part of the picture, beside a global one.

They lie beside the global prompt's features, under KEY, so that they travel through all of the
host's nodes. `host/model/regions.py` hands them to the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ...lumina.options.regions import MOST_REGIONS, Box, Region
from ..links import CONDITIONING, MASK, Conditioning, LinkType, check_link

KEY = "lumina_next_regions"
# What other nodes put on a prompt to say where, when or by which weights it acts.
ELSEWHERE = {
    "area": "an area",
    "mask": "a mask",
    "start_percent": "a time range",
    "control": "a ControlNet",
    "gligen": "GLIGEN boxes",
    "hooks": "hooks",
    KEY: "regions of its own",
}


@dataclass(frozen=True, eq=False)
class PromptedRegion:
    """A region and the caption (N, S, D) that acts in it.

    settings: what else the prompt's CONDITIONING holds, such as its attention_mask.
    """

    region: Region
    caption: Tensor
    settings: Mapping[str, object]

    @property
    def mask(self) -> Tensor | None:
        return self.settings.get("attention_mask")

    @property
    def range(self) -> tuple[float, float]:
        return self.region.start, self.region.end


Regions = tuple[PromptedRegion, ...]


def _is_regions(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, PromptedRegion) for item in value)


REGIONS = LinkType("LUMINA_NEXT_REGIONS", "Lumina-Next Region", _is_regions)


def add_region(
    prompt: Conditioning,
    box: Mapping[str, float],
    mask: Tensor | None,
    regions: Regions | None,
    **settings: float,
) -> Regions:
    """`regions` and one more: `prompt` in a box, or in a mask in its place.

    settings: the other fields of a `Region`. Several entries of a prompt, as "Conditioning
    (Combine)" gives, share it. Raises ValueError for a setting out of range, an empty mask, a
    prompt without text or with a place of its own, and more than MOST_REGIONS.
    """
    check_link(prompt, "prompt", CONDITIONING)
    if regions is not None:
        check_link(regions, "regions", REGIONS)
    region = Region(Box(**box) if mask is None else _checked(mask), **settings)
    region = replace(region, weight=region.weight / max(len(prompt), 1))
    added = tuple(prompted(region, *entry) for entry in prompt)
    if not added:
        raise ValueError("The region's prompt is an empty CONDITIONING: connect an encoded prompt.")
    total = (*(regions or ()), *added)
    if len(total) > MOST_REGIONS:
        raise ValueError(f"There are {len(total)} regions; a picture can have {MOST_REGIONS}.")
    return total


def _checked(mask: Tensor) -> Tensor:
    """A MASK as (N, h, w); some packs leave the first axis out."""
    check_link(mask, "mask", MASK)
    return mask[None] if mask.ndim == 2 else mask


def prompted(
    region: Region, caption: Tensor | None, settings: Mapping[str, object]
) -> PromptedRegion:
    """The region with its caption. Raises ValueError for a prompt without text or elsewhere set."""
    if caption is None:
        raise ValueError("The region's CONDITIONING holds no encoded prompt.")
    for key, name in ELSEWHERE.items():
        if settings.get(key) is not None:
            raise ValueError(
                f"The region's prompt has {name}, which does not act inside a region. Set place "
                'and time at "Lumina-Next Region", and everything else behind "Lumina-Next '
                'Regions".'
            )
    return PromptedRegion(region, caption, settings)


def with_regions(global_prompt: Conditioning, regions: Regions | None) -> Conditioning:
    """The global prompt with the regions added to those that it has.

    Raises ValueError without a region, and for regions of another text encoder than its own.
    """
    check_link(global_prompt, "global_prompt", CONDITIONING)
    check_link(regions, "regions", REGIONS)
    if not regions:
        raise ValueError('There is no region: connect "Lumina-Next Region".')
    for caption, _ in global_prompt:
        _check_widths(caption, regions)
    return [
        [caption, {**settings, KEY: (*settings.get(KEY, ()), *regions)}]
        for caption, settings in global_prompt
    ]


def _check_widths(caption: Tensor | None, regions: Regions) -> None:
    if caption is None:
        raise ValueError("The global CONDITIONING holds no encoded prompt.")
    for number, region in enumerate(regions, start=1):
        if region.caption.shape[-1] != caption.shape[-1]:
            raise ValueError(
                f"The prompt of region {number} has {region.caption.shape[-1]} features per "
                f"token, the global prompt {caption.shape[-1]}: they come from two text encoders. "
                "Encode both with the model's own."
            )
