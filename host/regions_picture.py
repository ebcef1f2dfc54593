"""The regions of a prompt as a picture: each in its color and with its number, over a frame.

A place has the colors of what it reads, mixed by their shares; white is the global prompt.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from ..lumina.options.regions import CaptionShares
from .links import CONDITIONING, LATENT, Conditioning, check_link
from .options.regions import KEY, PromptedRegion
from .sigmas_picture import COLORS, INK

SIDE = 768  # px, of the longer side
FONT, STRENGTH = 28, 0.75  # of the colors, so that black numbers can be read on them
NO_REGIONS = (
    'The prompt has no regions: connect "Lumina-Next Regions" or "Lumina-Next Grid" as "prompt".'
)


def draw_regions(prompt: Conditioning, latent: Mapping[str, Tensor]) -> Tensor:
    """IMAGE (N, h, w, 3) in the latent's shape; N pictures where a mask has N of them.

    Raises ValueError for a prompt without regions.
    """
    check_link(prompt, "prompt", CONDITIONING)
    check_link(latent, "latent", LATENT)
    regions = [region for _, settings in prompt for region in settings.get(KEY, ())]
    if not regions:
        raise ValueError(NO_REGIONS)
    height, width = latent["samples"].shape[-2:]
    larger = SIDE / max(height, width)
    size = max(1, round(height * larger)), max(1, round(width * larger))
    return torch.stack([_picture(shares) for shares in _shares(regions, size)])


def _shares(regions: Sequence[PromptedRegion], size: tuple[int, int]) -> Tensor:
    """What each place of pictures of that size reads: (N, 1 + R, h, w)."""
    weights = [region.region.weights(*size) for region in regions]
    count = max(map(len, weights))
    rows = [weight[torch.arange(count) % len(weight)] for weight in weights]
    lengths = [1] * (1 + len(regions))
    shares = CaptionShares.of(torch.stack(rows, dim=1), lengths, patch_size=1).shares
    return shares.unflatten(2, size)


def _picture(shares: Tensor) -> Tensor:
    """One picture (h, w, 3), of float32 from 0 to 1, of shares (1 + R, h, w)."""
    colors = [COLORS[i % len(COLORS)] for i in range(len(shares) - 1)]
    rgb = torch.tensor([ImageColor.getrgb(color) for color in ("white", *colors)]) / 255
    faint = 1 - STRENGTH * (1 - rgb)
    mixed = torch.einsum("rhw,rc->hwc", shares, faint)
    picture = Image.fromarray((mixed * 255).round().clamp(0, 255).byte().numpy())
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT)
    for number, share in enumerate(shares[1:], start=1):
        if share.any():
            draw.text(_middle(share), str(number), INK, font, anchor="mm")
    return torch.from_numpy(np.array(picture, dtype=np.float32) / 255)


def _middle(share: Tensor) -> tuple[float, float]:
    """The place (x, y) of the region that is nearest to its center of mass."""
    places = torch.nonzero(share >= share.max() / 2).float()
    nearest = (places - places.mean(0)).square().sum(1).argmin()
    row, column = places[nearest].tolist()
    return column, row
