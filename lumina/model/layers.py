"""What a Next-DiT is built from: the layers, attention and rotation that are handed to it.

Plain torch by default, ComfyUI's when it runs the model.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import NextDiTConfig
from ..options.forward import ForwardOptions
from ..rope import rotation

TIME_FREQUENCIES = 128


class Attention(Protocol):
    """softmax(q k^T * scale + mask) v, grouped where q has more heads than k and v.

    q (B, heads, L, head_dim); k, v (B, kv_heads, S, head_dim); mask: bias (B, 1, 1, S) or None;
    returns (B, heads, L, head_dim). `options` is the run's, for backends that the run may change.
    """

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None,
        scale: float,
        options: ForwardOptions,
    ) -> Tensor: ...


class Rotate(Protocol):
    """Turns the channel pairs of (B, L, heads, head_dim) by a table of `rope.rotation_table`."""

    def __call__(self, x: Tensor, table: Tensor) -> Tensor: ...


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    scale: float,
    options: ForwardOptions,
) -> Tensor:
    """torch's attention; keys and values are shared between heads, not repeated."""
    shared = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=shared)


class HeadGate(nn.Module):
    """One learned gate for each head, tanh(weight), on what attention read from the caption.

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


@dataclass(frozen=True)
class LayerKit:
    """What a NextDiT is built from: layers, attention, rotation, and where its weights live."""

    ops: ModuleType | type = nn
    attention: Attention = scaled_dot_product_attention
    rotate: Rotate = rotation.rotate
    gate: type[HeadGate] = HeadGate
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None

    def linear(self, inputs: int, outputs: int, bias: bool = True) -> nn.Module:
        return self.ops.Linear(inputs, outputs, bias=bias, device=self.device, dtype=self.dtype)

    def layer_norm(self, dim: int, eps: float, affine: bool = True) -> nn.Module:
        return self.ops.LayerNorm(
            dim, eps=eps, elementwise_affine=affine, device=self.device, dtype=self.dtype
        )

    def rms_norm(self, dim: int, eps: float) -> nn.Module:
        return self.ops.RMSNorm(dim, eps=eps, device=self.device, dtype=self.dtype)


def time_features(t: Tensor) -> Tensor:
    """Cosines, then sines of `t` (B,) in [0, 1], unscaled: (B, 256) float32."""
    k = torch.arange(TIME_FREQUENCIES, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * 10000.0 ** (-k / TIME_FREQUENCIES)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedder(nn.Module):
    """Time t to a conditioning vector (B, condition_dim)."""

    def __init__(self, dim: int, kit: LayerKit) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            kit.linear(2 * TIME_FREQUENCIES, dim), nn.SiLU(), kit.linear(dim, dim)
        )

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(time_features(t).to(dtype))


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: NextDiTConfig, kit: LayerKit) -> None:
        super().__init__()
        self.w1 = kit.linear(config.dim, config.ffn_dim, bias=False)
        self.w2 = kit.linear(config.ffn_dim, config.dim, bias=False)
        self.w3 = kit.linear(config.dim, config.ffn_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))
