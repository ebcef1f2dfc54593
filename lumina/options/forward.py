"""What one run may change about a forward pass. Handed to `NextDiT.forward`, never stored on it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .context_drop import Cells, DroppingLayers
from .regions import CaptionShares
from .step_cache import CachedCall


@dataclass(frozen=True, eq=False)
class ForwardOptions:
    """Settings of a single forward pass; the defaults are the model as trained.

    rotation: RoPE table (1, L, 1, head_dim / 2, 2, 2) from `rope.rotation_table`;
        None takes the trained frequencies for the latent's own size.
    self_attention_scale: softmax scale of self-attention; None is 1 / sqrt(head_dim).
        Cross-attention always keeps 1 / sqrt(head_dim).
    cells: in which cells self-attention averages its keys and values; None averages nothing.
    dropping: the layers that do so. torch.compile makes one network for all `DroppingLayers` and
        one for each set.
    drops: in compiled code, whether one layer does so (a bool of no axes, on the CPU); None where
        `cells` alone says it.
    regions: which of several captions each image token reads; None where there is one.
    cached: what the run remembers of earlier calls, which may save the layers; None saves nothing.
    tokens_per_norm, tokens_per_product: how many tokens of the batch go at a time through what only
        reads and writes them, as norms and rotation, and through a feed-forward, so that they stay
        in a processor's cache; None takes all. The picture is the same.
    """

    rotation: Tensor | None = None
    self_attention_scale: float | None = None
    cells: Cells | None = None
    dropping: frozenset[int] | DroppingLayers = frozenset()
    drops: Tensor | None = None
    cached: CachedCall | None = None
    regions: CaptionShares | None = None
    tokens_per_norm: int | None = None
    tokens_per_product: int | None = None

    @property
    def caption_lengths(self) -> tuple[int, ...] | None:
        """Tokens of each of several captions; None where there is one."""
        return None if self.regions is None else self.regions.lengths

    def for_layer(self, index: int) -> "ForwardOptions":
        """These options as one layer sees them: without cells unless it drops.

        Code that is compiled for all `DroppingLayers` keeps the cells, and decides by `drops`.
        """
        if self.cells is None:
            return self
        if isinstance(self.dropping, DroppingLayers) and torch.compiler.is_compiling():
            return replace(self, drops=self.dropping.flags[index])
        return self if index in self.dropping else replace(self, cells=None)
