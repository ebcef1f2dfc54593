"""What may follow classifier-free guidance: channels left out of it, bounds on its strength.

Tensors are velocities (B, C, H, W), picture minus noise; every rule treats each picture of a batch
by itself. `on_channels` serves denoised pictures as well. Lumina-Next guides three of its four
latent channels (`forward_with_cfg` of the released code).
"""

import torch
from torch import Tensor

from ..parameters import Parameter

RELEASED_CHANNELS = 3
CHANNELS = {"released": RELEASED_CHANNELS, "all": None}  # how many of them are guided

CFG = Parameter(
    4.0,
    0.0,
    100.0,
    "Strength of guidance, without unit. Higher follows the prompt more closely, with harder "
    "colors and less variety. At 1 the negative prompt is ignored and a step costs half.",
    step=0.1,
    precision=0.01,
)
PARAMETERS = {
    "start": Parameter(
        1.0,
        0.0,
        1.0,
        "Noise level (sigma, 1 noise to 0 picture) from which cfg acts. Lower leaves the layout "
        "freer. Outside its range a step takes half the time.",
        step=0.01,
        is_advanced=True,
    ),
    "end": Parameter(
        0.0,
        0.0,
        1.0,
        "Noise level (sigma, 1 noise to 0 picture) down to which cfg acts. Higher leaves details "
        "softer. Outside its range a step takes half the time.",
        step=0.01,
        is_advanced=True,
    ),
    "renorm": Parameter(
        0.0,
        0.0,
        10.0,
        "Longest guided step, in lengths of the prompt's own. 1 tames hard colors most, higher "
        "less; 0 is off.",
        step=0.05,
    ),
    "rescale": Parameter(
        0.0,
        0.0,
        1.0,
        "Share of the contrast that guidance added to take back. Higher gives softer colors; 0 is "
        "off.",
        step=0.05,
    ),
    "zero_steps": Parameter(
        0,
        0,
        10,
        "First steps that leave the noise as it is, where the model's first guess does more harm "
        "than good.",
        is_advanced=True,
    ),
}


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
