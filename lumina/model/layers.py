"""Layers that several networks share, and `LayerKit`, in which a network gets its layers.

By default they are torch's own; a host hands in its layers, attention and rotation. Here are
attention, head gate, learned token, norm, time embedder and feed-forward.

Axes: B batch, L image tokens, S caption tokens, D width.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import rope
from ..options.forward import ForwardOptions

TIME_FREQUENCIES = 128


class Operations(Protocol):
    """The classes of layers: torch.nn, or a host's classes of the same names."""

    @property
    def Linear(self) -> type[nn.Module]: ...
    @property
    def Embedding(self) -> type[nn.Module]: ...
    @property
    def LayerNorm(self) -> type[nn.Module]: ...
    @property
    def RMSNorm(self) -> type[nn.Module]: ...


class Attention(Protocol):
    """softmax(q k^T * scale + mask) v, grouped where q has more heads than k and v.

    q (B, heads, L, head_dim); k, v (B, kv_heads, S, head_dim); mask: bias that broadcasts to
    (B, 1, L, S), or None; returns (B, heads, L, head_dim). options: those of the forward pass, for
    backends that depend on them.
    """

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None,
        scale: float,
        options: ForwardOptions | None = None,
    ) -> Tensor: ...


class Rotate(Protocol):
    """Rotates the channel pairs of (B, L, heads, head_dim) by a table of `rope.rotation_table`."""

    def __call__(self, x: Tensor, table: Tensor) -> Tensor: ...


class TiedHead(Protocol):
    """Scores (..., vocab_size) of states (..., D) by an embedding that is the output head too."""

    def __call__(self, embedding: nn.Module, state: Tensor) -> Tensor: ...


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    scale: float,
    options: ForwardOptions | None = None,
) -> Tensor:
    """`Attention` by torch itself; keys and values are shared between heads, not repeated."""
    is_shared = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, scale=scale, enable_gqa=is_shared
    )


@dataclass(frozen=True, eq=False)
class Reading:
    """What cross-attention is made of.

    x (B, L, D): what queries are projected from. keys, values (B, S, caption_dim): captions. mask:
    bias (B, 1, 1, S), or None. Of more rows than the batch where a hook repeats pictures.
    """

    x: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor | None


class AttentionHooks:
    """Where a host's patches reach into attention; these change nothing."""

    def inputs(
        self, q: Tensor, k: Tensor, v: Tensor, options: ForwardOptions
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Queries, keys and values (B, heads, L, head_dim) before rotation, and the RoPE table."""
        return q, k, v, options.rotation

    def output(self, out: Tensor, options: ForwardOptions) -> Tensor:
        """What attention gives (B, L, D), before its projection."""
        return out

    def reading(
        self, x: Tensor, caption: Tensor, mask: Tensor | None, options: ForwardOptions
    ) -> Reading:
        """What cross-attention gets, of the layer's input (B, L, D) and the network's caption."""
        return Reading(x, caption, caption, mask)

    def read(self, text: Tensor, options: ForwardOptions) -> Tensor:
        """What cross-attention gives (B, heads, L, head_dim), before its gates."""
        return text


def embedding_as_head(embedding: nn.Module, state: Tensor) -> Tensor:
    """`TiedHead` by torch itself."""
    return F.linear(state, embedding.get_parameter("weight"))


class HeadGate(nn.Module):
    """One learned gate for each head, tanh(weight), on the attention to the caption.

    A module of its own, although the released name is `attention.gate` without `.weight`:
    ComfyUI moves and patches the weights of leaf modules only.
    """

    def __init__(
        self,
        heads: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, heads, L, head_dim), each head scaled by its gate."""
        return x * gate_factor(self.weight, x)


def gate_factor(weight: Tensor, x: Tensor) -> Tensor:
    """tanh of one weight for each head, shaped to scale `x` (B, heads, L, head_dim)."""
    return weight.to(x).tanh()[:, None, None]


class LearnedToken(nn.Module):
    """A learned token: a module of its own, as `HeadGate`, though its released name is bare."""

    def __init__(
        self,
        dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """The token (D,), on the device and in the dtype of `x`."""
        return self.weight.to(x)


class OffsetRMSNorm(nn.Module):
    """An RMS norm that scales by `offset` + stored weight; offset is 1 in Gemma, 0 in LLaMA."""

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
        return offset_rms_norm(x, self.weight, self.eps, self.offset)


def offset_rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """x / rms(x) * (offset + weight) over the last axis, in x's dtype; weight may be of any dtype.

    All in float32 and rounded once: in bfloat16, 1 + weight would lose weights below 0.004.
    """
    x32 = x.float()
    scale = offset + weight.to(device=x.device, dtype=torch.float32)
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps) * scale).to(x.dtype)


NO_HOOKS = AttentionHooks()


@dataclass(frozen=True)
class LayerKit:
    """The layers that a network is built from, and its weights' device and dtype.

    ops: namespace of Linear, Embedding, LayerNorm and RMSNorm. norm: class of the decoders' norms.
    A network takes those that it uses as keyword arguments; each defaults to plain torch.
    """

    ops: Operations = nn
    attention: Attention = scaled_dot_product_attention
    hooks: AttentionHooks = NO_HOOKS
    rotate: Rotate = rope.rotate
    gate: type[HeadGate] = HeadGate
    token: type[LearnedToken] = LearnedToken
    norm: type[OffsetRMSNorm] = OffsetRMSNorm
    tied_head: TiedHead = embedding_as_head
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None

    def linear(self, inputs: int, outputs: int, bias: bool = True) -> nn.Module:
        return self.ops.Linear(inputs, outputs, bias=bias, device=self.device, dtype=self.dtype)

    def embedding(self, count: int, dim: int) -> nn.Module:
        return self.ops.Embedding(count, dim, device=self.device, dtype=self.dtype)

    def layer_norm(self, dim: int, eps: float, affine: bool = True) -> nn.Module:
        return self.ops.LayerNorm(
            dim, eps=eps, elementwise_affine=affine, device=self.device, dtype=self.dtype
        )

    def rms_norm(self, dim: int, eps: float) -> nn.Module:
        return self.ops.RMSNorm(dim, eps=eps, device=self.device, dtype=self.dtype)

    def offset_rms_norm(self, dim: int, eps: float, offset: float) -> nn.Module:
        return self.norm(dim, eps=eps, offset=offset, device=self.device, dtype=self.dtype)

    def head_gate(self, heads: int) -> nn.Module:
        return self.gate(heads, device=self.device, dtype=self.dtype)

    def learned_token(self, dim: int) -> nn.Module:
        return self.token(dim, device=self.device, dtype=self.dtype)


def time_features(t: Tensor) -> Tensor:
    """Cosines, then sines of `t` (B,) in [0, 1], unscaled: (B, 256) float32."""
    k = torch.arange(TIME_FREQUENCIES, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * 10000.0 ** (-k / TIME_FREQUENCIES)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedder(nn.Module):
    """Time t to a conditioning vector (B, dim)."""

    def __init__(self, dim: int, kit: LayerKit) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            kit.linear(2 * TIME_FREQUENCIES, dim), nn.SiLU(), kit.linear(dim, dim)
        )

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(time_features(t).to(dtype))


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x)."""

    def __init__(self, dim: int, hidden_dim: int, kit: LayerKit) -> None:
        super().__init__()
        self.w1 = kit.linear(dim, hidden_dim, bias=False)
        self.w2 = kit.linear(hidden_dim, dim, bias=False)
        self.w3 = kit.linear(dim, hidden_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # In place: the widest activations of a model are here, and set how much memory it takes.
        return self.w2(F.silu(self.w1(x)).mul_(self.w3(x)))
