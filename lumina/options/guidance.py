"""What may follow classifier-free guidance: channels left out of it, bounds on its strength.

Tensors are (B, C, H, W); every rule treats each picture of a batch by itself. Lumina-Next guides
three of its four latent channels (`forward_with_cfg` of the released code).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..parameters import Parameter, check_fields

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
        "freer. Steps without cfg take half the time.",
        step=0.01,
        is_advanced=True,
    ),
    "end": Parameter(
        0.0,
        0.0,
        1.0,
        "Noise level (sigma, 1 noise to 0 picture) down to which cfg acts. Higher leaves details "
        "softer. Steps without cfg take half the time.",
        step=0.01,
        is_advanced=True,
    ),
    "renorm": Parameter(
        0.0,
        0.0,
        10.0,
        "Longest guided step; 1 is the length of the step by the prompt alone. 1 tames hard colors "
        "most, higher less; 0 is off.",
        step=0.05,
    ),
    "rescale": Parameter(
        0.0,
        0.0,
        1.0,
        "How much of the contrast that guidance adds is taken back, 1 all of it. Higher gives "
        "softer colors; 0 is off.",
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


@dataclass(frozen=True)
class Guidance:
    """The default is the released code's: three channels, always, nothing else.

    channels: which are guided, a name in CHANNELS. start, end: sigma from which and down to which
    cfg acts, outside it the prompt alone does. renorm: longest guided velocity, in lengths of the
    prompt's own; 0 is off. rescale: share of the spread brought back; 0 is off. zero_steps: first
    steps that leave the noise as it is (arXiv:2503.18886). Raises ValueError for a setting out of
    range, and for a start below the end.
    """

    channels: str = "released"
    start: float = PARAMETERS["start"].default
    end: float = PARAMETERS["end"].default
    renorm: float = PARAMETERS["renorm"].default
    rescale: float = PARAMETERS["rescale"].default
    zero_steps: int = int(PARAMETERS["zero_steps"].default)

    def __post_init__(self) -> None:
        check_fields(PARAMETERS, self)
        if self.channels not in CHANNELS:
            raise ValueError(f'guidance acts on channels {list(CHANNELS)}, got "{self.channels}"')
        if self.end > self.start:
            raise ValueError(
                f"Guidance starts at a higher sigma than it ends, both from 1 (noise) to 0 "
                f"(picture); got start {self.start:g} and end {self.end:g}."
            )

    def acts_at(self, sigma: float) -> bool:
        return self.end <= sigma <= self.start

    def leaves_noise(self, sigma: Tensor, sigmas: Tensor) -> bool:
        """Whether `sigma` (B,) is one of the first of `sigmas` (steps + 1,), which are skipped."""
        last = sigmas[min(self.zero_steps, len(sigmas) - 1)]
        return self.zero_steps > 0 and bool(sigma.max() > last)

    def bounded(self, guided: Tensor, conditional: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoised picture by these rules, from the `guided` one.

        conditional: the picture by the prompt alone. x: the noisy latent, at `sigma` (B,).
        """
        count = CHANNELS[self.channels]
        if count is not None:
            guided = on_channels(guided, conditional, count)
        if not self.renorm and not self.rescale:
            return guided
        # denoised = x + sigma * velocity. The rules compare velocities with each other, so that any
        # sigma will do where it is 0, at which some samplers ask as well.
        sigma = sigma.reshape(-1, 1, 1, 1).clamp(min=1e-4)
        velocity, bound = (guided - x) / sigma, (conditional - x) / sigma
        if self.renorm:
            velocity = renormalized(velocity, bound, self.renorm)
        if self.rescale:
            velocity = rescaled(velocity, bound, self.rescale)
        return x + sigma * velocity


def on_channels(guided: Tensor, conditional: Tensor, count: int) -> Tensor:
    """Guidance on the first `count` channels; the rest as the prompt alone predicts them."""
    return torch.cat([guided[:, :count], conditional[:, count:]], dim=1)


def renormalized(guided: Tensor, conditional: Tensor, limit: float) -> Tensor:
    """A `guided` velocity, shortened if longer than `limit` times `conditional` (CFG renorm).

    Length is that of a picture's whole velocity. Lumina-Image 2.0's demo uses limit 1.
    """
    longest = limit * _length(conditional)
    return guided * (longest / _length(guided).clamp(min=1e-12)).clamp(max=1)


def rescaled(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """A `guided` velocity with a `share` of its spread brought back to that of `conditional`.

    Against colors that strong guidance burns (arXiv:2305.08891, section 3.4).
    """
    ratio = _spread(conditional) / _spread(guided).clamp(min=1e-12)
    return guided * torch.lerp(torch.ones_like(ratio), ratio, share)


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.float(), dim=(1, 2, 3), keepdim=True).to(x)


def _spread(x: Tensor) -> Tensor:
    return x.float().std(dim=(1, 2, 3), keepdim=True).to(x)
