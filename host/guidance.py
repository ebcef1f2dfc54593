"""Which latent channels classifier-free guidance acts on.

The released code guides the first three of the four and takes the fourth from the prompt's own
prediction (`forward_with_cfg` of Lumina-T2X). As a function after guidance it composes with every
sampler and guidance node; being exact there rests on the denoised picture being affine in velocity.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

RELEASED_CHANNELS = 3


@dataclass(frozen=True)
class GuidedChannels:
    """Keeps the result of guidance on the first `count` channels, the prompt's on the rest."""

    count: int = RELEASED_CHANNELS

    def __call__(self, args: Mapping[str, object]) -> Tensor:
        guided, conditional = args["denoised"], args["cond_denoised"]
        if args["uncond"] is None:  # guidance 1: nothing was guided
            return guided
        return torch.cat([guided[:, : self.count], conditional[:, self.count :]], dim=1)


def with_guided_channels(model: ModelPatcher, count: int | None) -> ModelPatcher:
    """A clone of `model` that guides the first `count` channels; None guides all of them."""
    model = model.clone()
    functions = model.model_options.get("sampler_post_cfg_function", [])
    kept = [function for function in functions if not isinstance(function, GuidedChannels)]
    # First, so that functions which other nodes hung up later see what the released code gives.
    own = [] if count is None else [GuidedChannels(count)]
    model.model_options["sampler_post_cfg_function"] = own + kept
    return model
