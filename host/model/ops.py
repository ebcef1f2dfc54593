"""ComfyUI's attention, rotation and weight casting, in the shapes that `lumina` asks for.

Going through the host's functions is what makes its attention backends, their overrides by other
nodes, its low-memory modes and LoRA work.
"""

import comfy.ldm.flux.math
import comfy.ldm.modules.attention
import comfy.ops
import torch
from torch import Tensor

from ...lumina.model.layers import HeadGate, gate_factor
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
    """`lumina.model.Attention` by the backend the user chose for diffusion models."""
    return comfy.ldm.modules.attention.optimized_attention(
        q,
        k,
        v,
        q.shape[1],
        mask=mask,
        skip_reshape=True,
        skip_output_reshape=True,
        transformer_options=options.transformer_options,
        **_extra_arguments(q, k, scale),
    )


def _extra_arguments(q: Tensor, k: Tensor, scale: float) -> dict[str, object]:
    # Only where it matters: attention overrides of other node packs do not all take these two.
    arguments: dict[str, object] = {}
    if scale != q.shape[-1] ** -0.5:
        arguments["scale"] = scale
    if k.shape[1] != q.shape[1]:
        arguments["enable_gqa"] = True
    return arguments


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """`lumina.rope.rotate` by the host's fused kernel, where the machine has one."""
    return comfy.ldm.flux.math.apply_rope1(x, table)


class CastingHeadGate(HeadGate, comfy.ops.CastWeightBiasOp):
    """A head gate whose weight the host may keep elsewhere, in another dtype, or patch."""

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
