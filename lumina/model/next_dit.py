"""Next-DiT, the diffusion transformer of Lumina-Next (arXiv:2406.18583, section 2).

Axes: B batch, L image tokens, S caption tokens, D width.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from ..config import DiTConfig
from ..options.forward import ForwardOptions
from .backbone import DiT
from .joint_attention import JointAttention
from .layers import FeedForward, LayerKit
from .pieces import in_pieces


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normalized before and after (sandwich norm).

    Time and caption scale the input of each half and gate its output through tanh.
    """

    def __init__(self, config: DiTConfig, kit: LayerKit) -> None:
        super().__init__()
        dim, eps = config.dim, config.norm_eps
        self.attention = JointAttention(config, kit)
        self.feed_forward = FeedForward(dim, config.ffn_dim, kit)
        self.attention_norm1 = kit.rms_norm(dim, eps)
        self.attention_norm2 = kit.rms_norm(dim, eps)
        self.ffn_norm1 = kit.rms_norm(dim, eps)
        self.ffn_norm2 = kit.rms_norm(dim, eps)
        self.attention_y_norm = kit.rms_norm(config.caption_dim, eps)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), kit.linear(config.condition_dim, 4 * dim))

    def forward(
        self,
        x: Tensor,
        caption: Tensor,
        mask: Tensor | None,
        condition: Tensor,
        options: ForwardOptions,
    ) -> Tensor:
        """x (B, L, D); caption (B, S, caption_dim); condition (B, condition_dim) -> (B, L, D)."""
        modulation = self.adaLN_modulation(condition)[:, None]
        scale_attention, gate_attention, scale_ffn, gate_ffn = modulation.chunk(4, dim=-1)
        gate_attention, gate_ffn = gate_attention.tanh(), gate_ffn.tanh()
        few = options.tokens_per_norm
        attended = self.attention(
            in_pieces(scaled(self.attention_norm1, scale_attention), few, x),
            caption,
            self.attention_y_norm,
            mask,
            options,
        )
        x = in_pieces(added(self.attention_norm2, gate_attention), few, x, attended)
        del attended  # or it is kept while the feed-forward needs the most memory

        def feed(x: Tensor) -> Tensor:
            fed = self.feed_forward(in_pieces(scaled(self.ffn_norm1, scale_ffn), few, x))
            return in_pieces(added(self.ffn_norm2, gate_ffn), few, x, fed)

        return in_pieces(feed, options.tokens_per_product, x)


def scaled(norm: nn.Module, scale: Tensor) -> Callable[[Tensor], Tensor]:
    """x (B, L, D) to norm(x) * (1 + scale)."""
    return lambda x: norm(x) * (1 + scale)


def added(norm: nn.Module, gate: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """x, more (B, L, D) to x + gate * norm(more)."""
    return lambda x, more: torch.addcmul(x, gate, norm(more))


class FinalLayer(nn.Module):
    """Tokens to patches: normalize, scale by the condition (no shift), project."""

    def __init__(self, config: DiTConfig, kit: LayerKit) -> None:
        super().__init__()
        self.norm_final = kit.layer_norm(config.dim, eps=1e-6, affine=False)
        self.linear = kit.linear(config.dim, config.patch_size**2 * config.out_channels)
        self.adaLN_modulation = nn.Sequential(
            nn.SiLU(), kit.linear(config.condition_dim, config.dim)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.linear(self.norm_final(x) * (1 + self.adaLN_modulation(condition)[:, None]))


class NextDiT(DiT):
    """The text-to-image Next-DiT, every released size; see `DiT` for its arguments."""

    def layer(self, kit: LayerKit) -> Block:
        return Block(self.config, kit)

    def last_layer(self, kit: LayerKit) -> FinalLayer:
        return FinalLayer(self.config, kit)

    def first_read(self, x: Tensor, condition: Tensor) -> Tensor:
        first = cast(Block, self.layers[0])
        scale = first.adaLN_modulation(condition)[:, None].chunk(4, dim=-1)[0]
        return first.attention_norm1(x) * (1 + scale)
