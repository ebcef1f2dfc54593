"""Empty latents for pictures of a size."""

import comfy.model_management
import torch

from ..lumina.config import PX_PER_LATENT
from ..lumina.picture_sizes import BATCH_SIZE, SIZES, PictureSize
from .choices import Choice, chosen
from .notices import say

CHANNELS = 4  # of the VAEs of SDXL and SD 1.5
CUSTOM = "Custom"


def empty_latent(size: Choice, batch_size: int) -> tuple[dict[str, object], int, int]:
    """LATENT, width and height; the running node shows how the size compares with the training.

    Raises ValueError for a custom side that is no multiple of 16 px, and for a number out of range.
    """
    name, custom = chosen(size, "size", [*SIZES, CUSTOM])
    picture = SIZES[name] if name in SIZES else PictureSize(**custom)
    BATCH_SIZE.check("batch_size", batch_size)
    _report(picture)
    latent_size = (picture.height // PX_PER_LATENT, picture.width // PX_PER_LATENT)
    samples = torch.zeros(
        (batch_size, CHANNELS, *latent_size),
        device=comfy.model_management.intermediate_device(),
        dtype=comfy.model_management.intermediate_dtype(),
    )
    # What "Empty Latent Image" notes beside its samples, for models with other VAEs.
    latent = {"samples": samples, "downscale_ratio_spacial": PX_PER_LATENT}
    return latent, picture.width, picture.height


def _report(picture: PictureSize) -> None:
    advice = ' Put "Lumina-Next Resolution" behind the model.' if picture.times_trained > 1 else ""
    say(f"{picture.name}: {picture.summary}.{advice}")
