"""ComfyUI's attention, rotation and weight casting, as fields of a `LayerKit`.

Calling the host's functions makes its attention backends, other nodes' overrides of them, its
low-memory modes and LoRA work.
"""

import functools
from collections.abc import Callable, Mapping

import comfy.ldm.flux.math
import comfy.ldm.modules.attention
import comfy.model_management
import comfy.ops
import torch
from comfy.cli_args import args
from torch import Tensor
from torch.backends.cuda import (
    SDPAParams,
    can_use_efficient_attention,
    can_use_flash_attention,
)

from ...lumina.model.layers import (
    HeadGate,
    LearnedToken,
    OffsetRMSNorm,
    gate_factor,
    offset_rms_norm,
)
from ...lumina.options.forward import ForwardOptions
from .. import versions
from .transformer_options import HostForwardOptions

Options = Mapping[str, object]
HALF = (torch.float16, torch.bfloat16)
# Measured on 2 x 4096 tokens of the 2B, one thread, bfloat16: a norm and its scale take 48 ms
# in pieces of 64 or 128 tokens, 68 ms in those of 1024 and 176 ms whole; a feed-forward with its
# norms, in one size of pieces, 0.87 s in those of 1024, 1.19 s in those of 128, 1.23 s whole.
TOKENS_PER_NORM, TOKENS_PER_PRODUCT = 128, 1024


def image_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    scale: float,
    options: HostForwardOptions,
) -> Tensor:
    """`Attention` by the backend that the user chose for diffusion models. See `image_backend`."""
    if mask is not None or not options.shares_heads:
        k, v = for_each_head(k, q), for_each_head(v, q)
    arguments: dict[str, object] = {"transformer_options": options.transformer_options}
    if k.shape[1] != q.shape[1]:
        arguments["enable_gqa"] = True
    return _attend(image_backend(q, mask), q, k, v, mask, scale, arguments)


def image_backend(q: Tensor, mask: Tensor | None) -> Callable[..., Tensor]:
    """The host's attention for diffusion models, but torch's in two cases.

    What flash attention cannot take: the host would turn to torch's there too, but only after a
    warning at every layer and step. On a processor, unless another was chosen: what the host takes
    there by itself keeps scores in memory, and a step at 1024 px takes 1.6 times as long with it.
    """
    module = comfy.ldm.modules.attention
    chosen = module.optimized_attention
    is_too_much_for_flash = chosen is module.attention_flash and (
        mask is not None or q.dtype not in HALF
    )
    is_default = chosen is module.attention_sub_quad and not args.use_quad_cross_attention
    is_slow = is_default and comfy.model_management.is_device_cpu(q.device)
    return module.attention_pytorch if is_too_much_for_flash or is_slow else chosen


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
    return _attend(backend, q, for_each_head(k, q), for_each_head(v, q), mask, scale, {})


def for_each_head(shared: Tensor, q: Tensor) -> Tensor:
    """Keys or values (B, kv_heads, S, head_dim) repeated to as many heads as `q` has."""
    repeats = q.shape[1] // shared.shape[1]
    return shared if repeats == 1 else shared.repeat_interleave(repeats, dim=1)


def _attend(
    backend: Callable[..., Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scale: float,
    arguments: dict[str, object],
) -> Tensor:
    usual_scale = q.shape[-1] ** -0.5
    if scale != usual_scale:
        # Not as an argument, which older hosts and other packs' attention overrides ignore.
        q = q * (scale / usual_scale)
    shapes = {"skip_reshape": True, "skip_output_reshape": True}  # (B, heads, L, head_dim) as here
    return backend(q, k, v, q.shape[1], mask=mask, **shapes, **arguments)


def attention_shares_heads(
    device: torch.device, dtype: torch.dtype, head_dim: int, transformer_options: Options
) -> bool:
    """Whether self-attention may get fewer heads of keys than of queries, as the weights have.

    If not, keys and values are repeated, to the same result. Without a kernel that shares them
    torch keeps all scores in memory, 4 GB a picture at 1024 px, as up to 2.13 on every CUDA device
    in float32. On a CPU both take the same time. Attention overrides of other node packs do not
    all take `enable_gqa`.
    """
    if "optimized_attention_override" in transformer_options:
        return False
    if not versions.ATTENTION_SHARES_HEADS:
        return False
    is_cpu = comfy.model_management.is_device_cpu(device)
    return is_cpu or _has_shared_kernel(device, dtype, head_dim)


def attention_may_branch(
    device: torch.device, dtype: torch.dtype, transformer_options: Options
) -> bool:
    """Whether torch.compile can take self-attention into a branch, as `torch.cond` has them.

    It can torch's own. Others may leave compiled code in the middle, such as for the kernel of
    another library, which is an error inside a branch.
    """
    if "optimized_attention_override" in transformer_options:
        return False
    if not versions.COMPILED_CODE_MAY_BRANCH:
        return False
    q = torch.empty(0, dtype=dtype, device=device)
    return image_backend(q, None) is comfy.ldm.modules.attention.attention_pytorch


@functools.cache
def _has_shared_kernel(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether torch says so, which depends on its version, how it was built, and the card."""
    if not comfy.model_management.is_device_cuda(device):
        return False
    q, k = (torch.empty(1, heads, 64, head_dim, dtype=dtype, device=device) for heads in (2, 1))
    parameters = SDPAParams(q, k, k, None, 0.0, False, True)
    return can_use_flash_attention(parameters) or can_use_efficient_attention(parameters)


def tokens_at_once(device: torch.device, casts_weights: bool) -> tuple[int | None, int | None]:
    """How many tokens a processor takes at a time through norms and through matrix products.

    None for all: on other devices, and through products whose weights are cast at each use. Each
    thread has a cache for norms of its own.
    """
    if not comfy.model_management.is_device_cpu(device):
        return None, None
    few = TOKENS_PER_NORM * torch.get_num_threads()
    return few, None if casts_weights else max(few, TOKENS_PER_PRODUCT)


def finite_in_float16(operations: type) -> type:
    """The host's layers, with matrix products that cannot overflow float16.

    What goes into one and comes out of it is held within the largest numbers, so that a sum or a
    product that is too large bends a picture and does not turn it black.
    """

    class Linear(operations.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != torch.float16:
                return super().forward(x)
            return super().forward(torch.nan_to_num(x)).nan_to_num_()

    return type("FiniteInFloat16", (operations,), {"Linear": Linear})


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """`lumina.rope.rotate` by the host's fused kernel, where the machine has one.

    On a processor it has none, and complex numbers take half the time of what it does in its place.
    """
    if torch.compiler.is_compiling() or not comfy.model_management.is_device_cpu(x.device):
        return comfy.ldm.flux.math.apply_rope1(x, table)
    turns = torch.complex(table[..., 0, 0], table[..., 1, 0])
    pairs = torch.view_as_complex(x.float().contiguous().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).type_as(x)


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


class CastingToken(LearnedToken, comfy.ops.CastWeightBiasOp):
    """A learned token that the host may offload, cast or patch."""

    def __init__(
        self,
        dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(dim, device=device, dtype=dtype)
        self.bias = None  # the host casts a weight and a bias together

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, stream = comfy.ops.cast_bias_weight(self, x, offloadable=True)
        token = weight.to(x, copy=True)  # the host may use the memory of `weight` again
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return token


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
