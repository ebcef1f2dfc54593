"""The layers of a decoder: rotary attention with a cache, a gated feed-forward, the causal mask.

B batch, S tokens, D width.
"""

import torch
from torch import Tensor, nn

from .. import rope
from ..model.layers import LayerKit
from .config import FAMILIES, DecoderConfig


class DecoderLayer(nn.Module):
    """Self-attention, then a gated feed-forward, each normalized before and added after."""

    def __init__(self, config: DecoderConfig, kit: LayerKit) -> None:
        super().__init__()
        sizes = config.hidden_size, config.norm_eps, config.norm_offset
        self.self_attn = SelfAttention(config, kit)
        self.mlp = FeedForward(config, kit)
        self.input_layernorm = kit.offset_rms_norm(*sizes)
        self.post_attention_layernorm = kit.offset_rms_norm(*sizes)

    def forward(
        self, x: Tensor, mask: Tensor, rotation: Tensor, cache: "LayerCache | None" = None
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), mask, rotation, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class SelfAttention(nn.Module):
    """Rotary attention whose query heads share kv_heads keys and values (one, at 2B)."""

    def __init__(self, config: DecoderConfig, kit: LayerKit) -> None:
        super().__init__()
        width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.attention = kit.attention
        self.q_proj = kit.linear(config.hidden_size, width, bias=False)
        self.k_proj = kit.linear(config.hidden_size, kv_width, bias=False)
        self.v_proj = kit.linear(config.hidden_size, kv_width, bias=False)
        self.o_proj = kit.linear(width, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, mask: Tensor, rotation: Tensor, cache: "LayerCache | None" = None
    ) -> Tensor:
        """x (B, S, D), mask: bias (B or 1, 1, S, past + S), rotation: a RoPE table -> (B, S, D)."""
        q = rope.rotate_halves(self._heads(self.q_proj(x)), rotation).transpose(1, 2)
        k = rope.rotate_halves(self._heads(self.k_proj(x)), rotation).transpose(1, 2)
        v = self._heads(self.v_proj(x)).transpose(1, 2)  # (B, kv_heads, S, head_dim)
        if cache is not None:
            k, v = cache.extend(k, v)
        mixed = self.attention(q, k, v, mask=mask, scale=self.head_dim**-0.5)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim))  # (B, S, heads, head_dim)


class LayerCache:
    """Rotated keys, and values, of the first `tokens` tokens of a text, in one layer.

    Its storage doubles when it is full, so that adding a token rarely copies the others.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.stored: Tensor | None = None  # (2, B, kv_heads, capacity, head_dim)

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values so far, after appending these (B, kv_heads, S, head_dim)."""
        end, stored = self.tokens + k.shape[2], self.stored
        if stored is None or end > stored.shape[3]:
            stored = self.stored = self._grown(end, k)
        stored[0, :, :, self.tokens : end] = k
        stored[1, :, :, self.tokens : end] = v
        self.tokens = end
        return stored[0, :, :, :end], stored[1, :, :, :end]

    def _grown(self, needed: int, k: Tensor) -> Tensor:
        batch, heads, _, head_dim = k.shape
        larger = k.new_empty(2, batch, heads, 2 * needed, head_dim)
        if self.stored is not None:
            larger[:, :, :, : self.tokens] = self.stored[:, :, :, : self.tokens]
        return larger


class FeedForward(nn.Module):
    """A gated feed-forward: GeGLU (tanh approximation) in Gemma, SwiGLU in LLaMA."""

    def __init__(self, config: DecoderConfig, kit: LayerKit) -> None:
        super().__init__()
        self.activation = FAMILIES[config.family].activation
        self.gate_proj = kit.linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = kit.linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = kit.linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


def causal_mask(x: Tensor, attention_mask: Tensor | None, past: int = 0) -> Tensor:
    """Attention bias by which each token attends to itself and earlier tokens, never to padding.

    (B or 1, 1, S, past + S) in the dtype of x (B, S, D), which follows `past` tokens;
    attention_mask (B, past + S) covers both. Masked positions have a large finite number, not
    -inf: left padding masks complete rows, for which a plain softmax gives NaN, which would spread
    through v.
    """
    tokens = x.shape[1]
    visible = torch.ones(tokens, past + tokens, dtype=torch.bool, device=x.device).tril(past)
    visible = visible[None, None]
    if attention_mask is not None:
        visible = visible & (attention_mask.to(x.device) != 0)[:, None, None, :]
    lowest = torch.finfo(x.dtype).min / 2  # half: adding a score must not overflow
    return torch.zeros(visible.shape, dtype=x.dtype, device=x.device).masked_fill(~visible, lowest)
