"""How a run's settings reach the model.

A node writes a frozen object under `transformer_options["lumina_next"]` of a cloned MODEL. Once per
model call, outside anything that may be compiled, it is asked for that call's `ForwardOptions`;
torch.compile drops its guards on `transformer_options`, so nothing may be decided from there later.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol

import torch
from torch import Tensor

from ..lumina import rope
from ..lumina.options import ForwardOptions

SETTINGS = "lumina_next"


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
    head_dim: int
    device: torch.device

    @property
    def t(self) -> float:
        """Lumina's time, 0 noise, 1 picture. Waits for an accelerator: ask only when needed."""
        return 1.0 - float(self.sigma.flatten()[0])


class RunSettings(Protocol):
    """What may stand under `transformer_options["lumina_next"]`."""

    def forward_options(self, step: Step) -> ForwardOptions: ...


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


def forward_options(step: Step, transformer_options: Mapping[str, object]) -> ForwardOptions:
    """The options of one model call: the run's settings, or the model as trained."""
    settings: RunSettings | None = transformer_options.get(SETTINGS)
    if settings is not None:
        return settings.forward_options(step)
    if not transformer_options.get("rope_options"):
        size = len(step.rows), len(step.columns)
        return ForwardOptions(rope.trained_table(*size, step.head_dim, step.device))
    frequency = rope.frequencies(step.head_dim)
    return ForwardOptions(
        rope.rotation_table_at(step.rows, step.columns, frequency, frequency, step.device)
    )
