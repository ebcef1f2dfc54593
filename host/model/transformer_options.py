"""The host's transformer_options, where other nodes put patches, inside the network.

`HostForwardOptions` carries them with a call's own options; the functions here read them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ...lumina.options.context_drop import DroppingLayers
from ...lumina.options.forward import ForwardOptions


@dataclass(frozen=True, eq=False)
class HostForwardOptions(ForwardOptions):
    """The options of a model call, and what the host's attention and other nodes' patches read.

    shares_heads: whether self-attention may get fewer heads of keys and values than of queries.
    """

    transformer_options: Mapping[str, object] = field(default_factory=dict)
    latent: Tensor | None = None
    shares_heads: bool = False

    @classmethod
    def of(
        cls, options: ForwardOptions, *, shares_heads: bool, may_branch: bool
    ) -> "HostForwardOptions":
        """The same options, with empty transformer_options.

        may_branch: whether code compiled for all `DroppingLayers` may hold this attention.
        """
        given = {item.name: getattr(options, item.name) for item in fields(options)}
        if isinstance(options.dropping, DroppingLayers) and not may_branch:
            given["dropping"] = options.dropping.indices
        return cls(**given, shares_heads=shares_heads)


def patches(transformer_options: Mapping[str, object], name: str) -> list[Callable]:
    """The patches that other nodes set on the model under `name`."""
    return transformer_options.get("patches", {}).get(name, [])


def check_no_positions(transformer_options: Mapping[str, object], network: str) -> None:
    """Raise ValueError if another node moves or scales rows and columns."""
    if transformer_options.get("rope_options"):
        raise ValueError(
            f'"ScaleROPE" scales and moves rows and columns, and a {network} has none: its tokens '
            "stand in one line. Remove that node from the MODEL."
        )


def frame_of(
    size: tuple[int, int],
    frame: tuple[tuple[int, int], tuple[int, int]] | None,
    transformer_options: Mapping[str, object],
) -> tuple[int, int]:
    """Rows and columns of the picture of which a call gets a latent of `size`.

    frame: the whole picture, and the part that the prompt acts on. Where a wrapper of another node
    cuts that into tiles, each is a picture of its own, unless the wrapper says by shifts, as those
    of the host's ScaleROPE, where its tile stands.
    """
    if frame is None:
        return size
    whole, part = frame
    rope_options = transformer_options.get("rope_options") or {}
    is_placed = rope_options.get("shift_y", 0.0) or rope_options.get("shift_x", 0.0)
    return whole if size == part or is_placed else size


def positions(
    height: int, width: int, transformer_options: Mapping[str, object], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Positions of rows (height,) and columns (width,), as changed by the host's ScaleROPE."""
    rope_options = transformer_options.get("rope_options") or {}

    def axis(count: int, name: str) -> Tensor:
        scale = rope_options.get(f"scale_{name}", 1.0)
        shift = rope_options.get(f"shift_{name}", 0.0)
        return torch.arange(count, dtype=torch.float32, device=device) * scale + shift

    return axis(height, "y"), axis(width, "x")
