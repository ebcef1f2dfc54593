"""The layers of a decoder: rotary attention with a cache, gated feed-forward, RMS norm.

B batch, S tokens, D width.
"""

from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import FAMILIES, DecoderConfig


class Layers(Protocol):
    """Where the layers come from: torch.nn, or a host's classes of the same names."""

    Linear: type[nn.Module]
    Embedding: type[nn.Module]


class Attention(Protocol):
    """Softmax attention of q (B, heads, S, head_dim) over k, v (B, kv_heads, past + S, head_dim).

    mask (B, 1, S, past + S) is added to the scores, in q's dtype; past is the number of tokens read
    before, 0 without a cache. Returns (B, heads, S, head_dim).
    """

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, scale: float
    ) -> Tensor: ...


class DecoderLayer(nn.Module):
    """Self-attention, then a gated feed-forward, each normalized before and added after."""

    def __init__(
        self,
        config: DecoderConfig,
        ops: Layers,
        attention: Attention,
        norm: "type[RMSNorm]",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.self_attn = SelfAttention(config, ops, attention, **where)
        self.mlp = FeedForward(config, ops, **where)
        make_norm = partial(norm, config.hidden_size, eps=config.norm_eps, **where)
        self.input_layernorm = make_norm(offset=config.norm_offset)
        self.post_attention_layernorm = make_norm(offset=config.norm_offset)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        rotation: tuple[Tensor, Tensor],
        cache: "LayerCache | None" = None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), mask, rotation, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class SelfAttention(nn.Module):
    """Rotary attention whose query heads share kv_heads keys and values (one, at 2B)."""

    def __init__(
        self,
        config: DecoderConfig,
        ops: Layers,
        attention: Attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        bare = {"bias": False, "device": device, "dtype": dtype}
        width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.attention = attention
        self.q_proj = ops.Linear(config.hidden_size, width, **bare)
        self.k_proj = ops.Linear(config.hidden_size, kv_width, **bare)
        self.v_proj = ops.Linear(config.hidden_size, kv_width, **bare)
        self.o_proj = ops.Linear(width, config.hidden_size, **bare)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        rotation: tuple[Tensor, Tensor],
        cache: "LayerCache | None" = None,
    ) -> Tensor:
        q = rotate(self._heads(self.q_proj(x)), rotation)
        k = rotate(self._heads(self.k_proj(x)), rotation)
        v = self._heads(self.v_proj(x))
        if cache is not None:
            k, v = cache.extend(k, v)
        mixed = self.attention(q, k, v, mask=mask, scale=self.head_dim**-0.5)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, S, head_dim)


class LayerCache:
    """Keys, rotated, and values of the `tokens` tokens that one layer has read.

    Room is made ahead and doubled when full, so that adding a token copies that token only.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.stored: Tensor | None = None  # (2, B, kv_heads, room, head_dim)

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values so far, these (B, kv_heads, S, head_dim) last."""
        end = self.tokens + k.shape[2]
        if self.stored is None or end > self.stored.shape[3]:
            self._make_room(end, k)
        self.stored[0, :, :, self.tokens : end] = k
        self.stored[1, :, :, self.tokens : end] = v
        self.tokens = end
        return self.stored[0, :, :, :end], self.stored[1, :, :, :end]

    def _make_room(self, needed: int, k: Tensor) -> None:
        batch, heads, _, head_dim = k.shape
        larger = k.new_empty(2, batch, heads, 2 * needed, head_dim)
        if self.stored is not None:
            larger[:, :, :, : self.tokens] = self.stored[:, :, :, : self.tokens]
        self.stored = larger


class FeedForward(nn.Module):
    """A gated feed-forward: GeGLU (tanh approximation) in Gemma, SwiGLU in LLaMA."""

    def __init__(
        self,
        config: DecoderConfig,
        ops: Layers,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        bare = {"bias": False, "device": device, "dtype": dtype}
        self.activation = FAMILIES[config.family].activation
        self.gate_proj = ops.Linear(config.hidden_size, config.intermediate_size, **bare)
        self.up_proj = ops.Linear(config.hidden_size, config.intermediate_size, **bare)
        self.down_proj = ops.Linear(config.intermediate_size, config.hidden_size, **bare)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    """An RMS norm whose scale is stored less `offset`: 1 in Gemma, 0 in LLaMA."""

    def __init__(
        self,
        size: int,
        *,
        eps: float,
        offset: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps, self.offset = eps, offset
        self.weight = nn.Parameter(torch.full((size,), 1 - offset, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps, self.offset)


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """x / rms(x) * (offset + weight) over the last axis, in x's dtype; weight may be of any dtype.

    All in float32 and rounded once: in bfloat16, 1 + weight would lose weights below 0.004.
    """
    x32 = x.float()
    scale = offset + weight.to(device=x.device, dtype=torch.float32)
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps) * scale).to(x.dtype)


def rotation_table(
    tokens: int,
    head_dim: int,
    *,
    theta: float,
    device: torch.device | None = None,
    start: int = 0,
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles at each position: two (tokens, head_dim / 2) float32."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    position = torch.arange(start, start + tokens, dtype=torch.float32, device=device)
    angles = position[:, None] / theta**exponent
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn x (B, heads, S, head_dim): channel i pairs with channel i + head_dim / 2."""
    cos, sin = rotation
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.to(x.dtype)


def causal_mask(x: Tensor, attention_mask: Tensor | None, past: int = 0) -> Tensor:
    """What is added to the scores so that a token sees itself and earlier tokens, never padding.

    (B or 1, 1, S, past + S) in the dtype of x (B, S, D), which follows `past` tokens;
    attention_mask (B, past + S) covers both. Hidden places hold a large finite number, not
    -inf: left padding leaves rows with nothing to see, where a plain softmax would give NaN and
    spread it through v.
    """
    tokens = x.shape[1]
    seen = torch.ones(tokens, past + tokens, dtype=torch.bool, device=x.device).tril(past)
    seen = seen[None, None]
    if attention_mask is not None:
        seen = seen & (attention_mask.to(x.device) != 0)[:, None, None, :]
    hidden = torch.finfo(x.dtype).min / 2  # half: adding a score must not overflow
    return torch.zeros(seen.shape, dtype=x.dtype, device=x.device).masked_fill(~seen, hidden)


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, scale: float
) -> Tensor:
    """`Attention` by torch itself."""
    shared = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=shared)
