"""ComfyUI's attention, rotation and weight casting, as fields of a `LayerKit`.

Calling the host's functions makes its attention backends, other nodes' overrides of them, its
low-memory modes and LoRA work.
"""

from collections.abc import Callable

import comfy.ldm.flux.math
import comfy.ldm.modules.attention
import comfy.ops
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...lumina.model.layers import HeadGate, OffsetRMSNorm, gate_factor, offset_rms_norm
from ...lumina.options.forward import ForwardOptions
from .transformer_options import HostForwardOptions


def image_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    scale: float,
    options: HostForwardOptions,
) -> Tensor:
    """`Attention` by the backend that the user chose for diffusion models."""
    backend = comfy.ldm.modules.attention.optimized_attention
    arguments = {"transformer_options": options.transformer_options}
    return _attend(backend, q, k, v, mask, scale, arguments)


def text_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    scale: float,
    options: ForwardOptions | None = None,
) -> Tensor:
    """`Attention` by the backend that the host uses for text encoders."""
    backend = comfy.ldm.modules.attention.optimized_attention_for_device(
        q.device, mask=True, small_input=True
    )
    return _attend(backend, q, k, v, mask, scale, {})


def _attend(
    backend: Callable[..., Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scale: float,
    arguments: dict[str, object],
) -> Tensor:
    # Only where they matter: attention overrides of other node packs do not all take these two.
    if scale != q.shape[-1] ** -0.5:
        arguments["scale"] = scale
    if k.shape[1] != q.shape[1]:
        arguments["enable_gqa"] = True
    shapes = {"skip_reshape": True, "skip_output_reshape": True}  # (B, heads, L, head_dim) as here
    return backend(q, k, v, q.shape[1], mask=mask, **shapes, **arguments)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """`lumina.rope.rotate` by the host's fused kernel, where the machine has one."""
    return comfy.ldm.flux.math.apply_rope1(x, table)


def casting_tied_head(embedding: nn.Module, state: Tensor) -> Tensor:
    """`TiedHead` by a weight that the host may keep elsewhere or patch."""
    weight, bias, stream = comfy.ops.cast_bias_weight(embedding, state, offloadable=True)
    out = F.linear(state, weight)
    comfy.ops.uncast_bias_weight(embedding, weight, bias, stream)
    return out


class CastingHeadGate(HeadGate, comfy.ops.CastWeightBiasOp):
    """A head gate whose weight the host may offload, cast or patch."""

    def __init__(
        self,
        heads: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(heads, device=device, dtype=dtype)
        self.bias = None  # the host casts a weight and a bias together

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, stream = comfy.ops.cast_bias_weight(self, x, offloadable=True)
        out = x * gate_factor(weight, x)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return out


class CastingRMSNorm(OffsetRMSNorm, comfy.ops.CastWeightBiasOp):
    """A decoder's norm whose weight the host may offload or patch.

    The weight stays in float32: Gemma's norm adds one to it, and 8 bits would lose much of it.
    """

    def __init__(
        self,
        size: int,
        *,
        eps: float,
        offset: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size, eps=eps, offset=offset, device=device, dtype=torch.float32)
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, stream = comfy.ops.cast_bias_weight(
            self, dtype=torch.float32, device=x.device, offloadable=True
        )
        out = offset_rms_norm(x, weight, self.eps, self.offset)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return out
