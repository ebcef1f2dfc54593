"""What one model call is about to compute, and the options it takes into the network.

`Step` is what a run's settings (see `settings`) know when they decide; `HostForwardOptions` carries
their decision, and what other nodes hung on the model, to where the network reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ..lumina import rope
from ..lumina.options import ForwardOptions


@dataclass(frozen=True, eq=False)
class Step:
    """What one model call is about to compute, in tokens.

    sigma (B,): 1 noise, 0 picture. rows (H,), columns (W,): where the tokens stand; 0, 1, 2 ...
    unless the host's ScaleROPE moves them. frame: rows and columns of the whole picture, more than
    this call's own where conditioning is limited to an area.
    """

    sigma: Tensor
    rows: Tensor
    columns: Tensor
    frame: tuple[int, int]
    layers: int
    head_dim: int
    device: torch.device

    @property
    def t(self) -> float:
        """Lumina's time, 0 noise, 1 picture. Waits for an accelerator: ask only when needed."""
        return 1.0 - float(self.sigma.flatten()[0])

    def trained_rotation(self) -> Tensor:
        """The RoPE table of the frequencies as trained, where the tokens stand."""
        height, width = len(self.rows), len(self.columns)
        in_place = (torch.arange(n, dtype=torch.float32) for n in (height, width))
        if all(map(torch.equal, (self.rows, self.columns), in_place)):
            return rope.trained_table(height, width, self.head_dim, self.device)
        frequency = rope.frequencies(self.head_dim)
        return rope.rotation_table_at(self.rows, self.columns, frequency, frequency, self.device)


@dataclass(frozen=True, eq=False)
class HostForwardOptions(ForwardOptions):
    """A run's options together with what the host's attention and other nodes' patches read."""

    transformer_options: Mapping[str, object] = field(default_factory=dict)
    latent: Tensor | None = None

    @classmethod
    def of(cls, options: ForwardOptions) -> "HostForwardOptions":
        """The same options, ready for the host's part."""
        return cls(**{item.name: getattr(options, item.name) for item in fields(options)})

    def attended(self, out: Tensor) -> Tensor:
        """Attention output (B, L, D) after the host's patches, such as those of NAGuidance."""
        for patch in patches(self.transformer_options, "attn1_output_patch"):
            out = patch(out, self.transformer_options)
        return out


def patches(transformer_options: Mapping[str, object], name: str) -> list[Callable]:
    """The functions that other nodes hung on the model under `name`."""
    return transformer_options.get("patches", {}).get(name, [])


def positions(
    height: int, width: int, transformer_options: Mapping[str, object]
) -> tuple[Tensor, Tensor]:
    """Row and column of each token, (height,) and (width,), as the host's ScaleROPE sets them."""
    rope_options = transformer_options.get("rope_options") or {}

    def axis(count: int, name: str) -> Tensor:
        scale = rope_options.get(f"scale_{name}", 1.0)
        return torch.arange(count, dtype=torch.float32) * scale + rope_options.get(
            f"shift_{name}", 0.0
        )

    return axis(height, "y"), axis(width, "x")
