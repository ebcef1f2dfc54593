"""Finds NaN and infinity, which would become a black picture, and says where they come from.

A run is checked where it begins and where it ends: once for each latent and prompt, never in a
layer, where an accelerator would have to be waited for.
"""

import torch
from torch import Tensor, nn

_NOT_FINITE = "numbers that are not finite (NaN or infinity)"


def check_given(values: Tensor, name: str, maker: str) -> None:
    """Raise ValueError if what another node gave holds such numbers.

    name: the connection's, such as LATENT. maker: what usually made them.
    """
    if not values.isfinite().all():
        raise ValueError(
            f"The {name} holds {_NOT_FINITE}, from which no picture can be drawn. {maker}"
        )


def check_drawn(samples: Tensor, network: nn.Module) -> None:
    """Raise ValueError if the latent (B, ...) at the end of a run holds such numbers.

    The text names the first weight of `network` that holds some, or else what to change.
    """
    is_whole = samples.isfinite().flatten(1).all(dim=1)
    if is_whole.all():
        return
    count = len(samples) - int(is_whole.sum())
    pictures = f" in {count} of {len(samples)} pictures" if len(samples) > 1 else ""
    weight = _damaged_weight(network)
    advice = (
        f'They come from its weight "{weight}": its file is damaged, or a LoRA is. Download the '
        "file again, or leave out the LoRA."
        if weight
        else "They arose while it was computed. Lower cfg, lower the strength of LoRAs, and "
        'set weight_dtype to "default" where the model is loaded.'
    )
    raise ValueError(f"The model gave {_NOT_FINITE}{pictures}. {advice}")


def _damaged_weight(network: nn.Module) -> str | None:
    for name, weight in network.named_parameters():
        # A quantized one has a class of its own, and one that is not loaded has no data.
        is_plain = type(weight) in (Tensor, nn.Parameter) and not weight.is_meta
        if is_plain and weight.is_floating_point() and not torch.isfinite(weight.float()).all():
            return name
    return None
