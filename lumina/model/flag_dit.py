"""Flag-DiT, the diffusion transformer of the first Lumina (Lumina-T2X, arXiv:2405.05945).

What differs from Next-DiT: a learned token ends each row of the picture, positions count along the
one line of tokens, these included, and layers shift as well as scale, normalize only before each
half and gate without tanh.

Axes: B batch, L tokens, line ends included, S caption tokens, D width, H rows, W columns.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..config import DiTConfig
from ..options.forward import ForwardOptions
from .backbone import DiT
from .joint_attention import JointAttention
from .layers import FeedForward, LayerKit
from .pieces import in_pieces


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normalized before it.

    Time and caption shift and scale the input of each half and gate its output.
    """

    def __init__(self, config: DiTConfig, kit: LayerKit) -> None:
        super().__init__()
        dim, eps = config.dim, config.norm_eps
        self.attention = JointAttention(config, kit)
        self.feed_forward = FeedForward(dim, config.ffn_dim, kit)
        self.attention_norm = kit.rms_norm(dim, eps)
        self.ffn_norm = kit.rms_norm(dim, eps)
        self.attention_y_norm = kit.rms_norm(config.caption_dim, eps)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), kit.linear(config.condition_dim, 6 * dim))

    def forward(
        self,
        x: Tensor,
        caption: Tensor,
        mask: Tensor | None,
        condition: Tensor,
        options: ForwardOptions,
    ) -> Tensor:
        """x (B, L, D); caption (B, S, caption_dim); condition (B, condition_dim) -> (B, L, D)."""
        modulation = self.adaLN_modulation(condition)[:, None].chunk(6, dim=-1)
        shift_attention, scale_attention, gate_attention, shift_ffn, scale_ffn, gate_ffn = (
            modulation
        )
        few = options.tokens_per_norm
        attended = self.attention(
            in_pieces(modulated(self.attention_norm, shift_attention, scale_attention), few, x),
            caption,
            self.attention_y_norm,
            mask,
            options,
        )
        x = torch.addcmul(x, gate_attention, attended)
        del attended  # or it is kept while the feed-forward needs the most memory

        def feed(x: Tensor) -> Tensor:
            read = in_pieces(modulated(self.ffn_norm, shift_ffn, scale_ffn), few, x)
            return torch.addcmul(x, gate_ffn, self.feed_forward(read))

        return in_pieces(feed, options.tokens_per_product, x)


def modulated(norm: nn.Module, shift: Tensor, scale: Tensor) -> Callable[[Tensor], Tensor]:
    """x (B, L, D) to norm(x) * (1 + scale) + shift."""
    return lambda x: torch.addcmul(shift, norm(x), 1 + scale)


class FinalLayer(nn.Module):
    """Tokens to patches: normalize, shift and scale by the condition, project."""

    def __init__(self, config: DiTConfig, kit: LayerKit) -> None:
        super().__init__()
        self.norm_final = kit.layer_norm(config.dim, eps=1e-6, affine=False)
        self.linear = kit.linear(config.dim, config.patch_size**2 * config.out_channels)
        self.adaLN_modulation = nn.Sequential(
            nn.SiLU(), kit.linear(config.condition_dim, 2 * config.dim)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        return self.linear(modulated(self.norm_final, shift, scale)(x))


class FlagDiT(DiT):
    """The text-to-image Flag-DiT; see `DiT` for its arguments."""

    def build(self, kit: LayerKit) -> None:
        super().build(kit)
        self.eol_token = kit.learned_token(self.config.dim)

    def layer(self, kit: LayerKit) -> Block:
        return Block(self.config, kit)

    def last_layer(self, kit: LayerKit) -> FinalLayer:
        return FinalLayer(self.config, kit)

    def sequence(self, tokens: Tensor, width: int) -> Tensor:
        """Tokens (B, H * W, D) with a line end after each row: (B, H * (W + 1), D)."""
        rows = tokens.unflatten(1, (-1, width))
        line_ends = self.eol_token(tokens).expand(*rows.shape[:2], 1, -1)
        return torch.cat([rows, line_ends], dim=2).flatten(1, 2)

    def picture(self, tokens: Tensor, width: int) -> Tensor:
        """Tokens (B, H * (W + 1), ...) without the line ends: (B, H * W, ...)."""
        return tokens.unflatten(1, (-1, width + 1))[:, :, :width].flatten(1, 2)

    def axis_lengths(self, height: int, width: int) -> tuple[int]:
        """One axis, along which the tokens of all rows and their line ends follow each other."""
        return (height * (width + 1),)
