"""The options of a model call together with what other nodes hung on the model.

`HostForwardOptions` carries both to where the network reads them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ...lumina.options.forward import ForwardOptions


@dataclass(frozen=True, eq=False)
class HostForwardOptions(ForwardOptions):
    """A run's options together with what the host's attention and other nodes' patches read."""

    transformer_options: Mapping[str, object] = field(default_factory=dict)
    latent: Tensor | None = None

    @classmethod
    def of(cls, options: ForwardOptions) -> "HostForwardOptions":
        """The same options, ready for the host's part."""
        return cls(**{item.name: getattr(options, item.name) for item in fields(options)})


def patched_attended(out: Tensor, options: HostForwardOptions) -> Tensor:
    """Attention output (B, L, D) after the host's patches, such as those of NAGuidance."""
    for patch in patches(options.transformer_options, "attn1_output_patch"):
        out = patch(out, options.transformer_options)
    return out


def patches(transformer_options: Mapping[str, object], name: str) -> list[Callable]:
    """The functions that other nodes hung on the model under `name`."""
    return transformer_options.get("patches", {}).get(name, [])


def positions(
    height: int, width: int, transformer_options: Mapping[str, object], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Row and column of each token, (height,) and (width,), as the host's ScaleROPE sets them."""
    rope_options = transformer_options.get("rope_options") or {}

    def axis(count: int, name: str) -> Tensor:
        scale = rope_options.get(f"scale_{name}", 1.0)
        shift = rope_options.get(f"shift_{name}", 0.0)
        return torch.arange(count, dtype=torch.float32, device=device) * scale + shift

    return axis(height, "y"), axis(width, "x")
