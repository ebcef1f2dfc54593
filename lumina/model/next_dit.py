"""Next-DiT, the diffusion transformer of Lumina-Next (arXiv:2406.18583, section 2).

Attribute names are the released checkpoints' own, so their files load without renaming. Layers and
attention are handed in: plain torch by default, ComfyUI's when it runs the model. Nothing about
a run is stored on a module; `forward` gets it as `ForwardOptions`.

Axes: B batch, L image tokens, S caption tokens, D width, C latent channels, H rows, W columns.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import rope
from ..config import NextDiTConfig
from ..options.forward import ForwardOptions
from .caption import additive_mask, masked_mean
from .layers import (
    Attended,
    Attention,
    FeedForward,
    HeadGate,
    LayerKit,
    Operations,
    Rotate,
    TimeEmbedder,
    scaled_dot_product_attention,
    unpatched,
)
from .patches import patchify, unpatchify


class JointAttention(nn.Module):
    """Image tokens attend to each other and, through a gate for each head, to the caption.

    Both streams share the rotated queries and the output projection; caption keys are not
    rotated. Queries and keys are normalized over all heads at once (`qk_norm`).
    """

    def __init__(self, config: NextDiTConfig, kit: LayerKit) -> None:
        super().__init__()
        self.attention, self.attended, self.rotate = kit.attention, kit.attended, kit.rotate
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.scale = config.head_dim**-0.5
        dim, kv_dim = config.dim, config.kv_dim
        self.wq = kit.linear(dim, dim, bias=False)
        self.wk = kit.linear(dim, kv_dim, bias=False)
        self.wv = kit.linear(dim, kv_dim, bias=False)
        self.wk_y = kit.linear(config.caption_dim, kv_dim, bias=False)
        self.wv_y = kit.linear(config.caption_dim, kv_dim, bias=False)
        self.gate = kit.head_gate(config.heads)
        self.wo = kit.linear(dim, dim, bias=False)
        norm = kit.layer_norm if config.qk_norm else _identity
        self.q_norm = norm(dim, config.norm_eps)
        self.k_norm = norm(kv_dim, config.norm_eps)
        self.ky_norm = norm(kv_dim, config.norm_eps)

    def forward(
        self, x: Tensor, caption: Tensor, mask: Tensor | None, options: ForwardOptions
    ) -> Tensor:
        """x (B, L, D), caption (B, S, caption_dim), mask: bias (B, 1, 1, S) -> (B, L, D)."""
        q = self._rotated(self.q_norm(self.wq(x)), self.heads, options.rotation)
        k = self._rotated(self.k_norm(self.wk(x)), self.kv_heads, options.rotation)
        v = self._kv_heads(self.wv(x))
        if options.cells is not None:
            k, v = options.cells.pooled(k), options.cells.pooled(v)
        k_y = self._kv_heads(self.ky_norm(self.wk_y(caption)))
        v_y = self._kv_heads(self.wv_y(caption))

        scale = self.scale if options.self_attention_scale is None else options.self_attention_scale
        image = self.attention(q, k, v, mask=None, scale=scale, options=options)
        text = self.attention(q, k_y, v_y, mask=mask, scale=self.scale, options=options)
        del q, k, v  # each as large as x, while the sum takes the memory that they hold
        out = self.gate(text).add_(image).transpose(1, 2).flatten(2)  # (B, L, D)
        return self.wo(self.attended(out, options))

    def _rotated(self, x: Tensor, heads: int, rotation: Tensor | None) -> Tensor:
        """x (B, L, heads * head_dim) -> (B, heads, L, head_dim)."""
        if rotation is None:
            raise ValueError("self-attention needs the RoPE table that NextDiT.forward fills in")
        return self.rotate(x.unflatten(-1, (heads, -1)), rotation).transpose(1, 2)

    def _kv_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)  # (B, kv_heads, ., head_dim)


def _identity(dim: int, eps: float) -> nn.Module:
    return nn.Identity()


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normalized before and after (sandwich norm).

    Time and caption scale the input of each half and gate its output through tanh.
    """

    def __init__(self, config: NextDiTConfig, kit: LayerKit) -> None:
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
        attended = self.attention(
            self.attention_norm1(x) * (1 + scale_attention),
            self.attention_y_norm(caption),
            mask,
            options,
        )
        x = torch.addcmul(x, gate_attention.tanh(), self.attention_norm2(attended))
        del attended  # or it is kept while the feed-forward needs the most memory
        fed = self.feed_forward(self.ffn_norm1(x) * (1 + scale_ffn))
        return torch.addcmul(x, gate_ffn.tanh(), self.ffn_norm2(fed))


class FinalLayer(nn.Module):
    """Tokens to patches: normalize, scale by the condition (no shift), project."""

    def __init__(self, config: NextDiTConfig, kit: LayerKit) -> None:
        super().__init__()
        self.norm_final = kit.layer_norm(config.dim, eps=1e-6, affine=False)
        self.linear = kit.linear(config.dim, config.patch_size**2 * config.out_channels)
        self.adaLN_modulation = nn.Sequential(
            nn.SiLU(), kit.linear(config.condition_dim, config.dim)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.linear(self.norm_final(x) * (1 + self.adaLN_modulation(condition)[:, None]))


class NextDiT(nn.Module):
    """The text-to-image Next-DiT, every released size.

    The keyword arguments are those of a `LayerKit`, with which a host builds it from its own
    layers. Weights are not initialized.
    """

    def __init__(
        self,
        config: NextDiTConfig,
        *,
        ops: Operations = nn,
        attention: Attention = scaled_dot_product_attention,
        attended: Attended = unpatched,
        rotate: Rotate = rope.rotate,
        gate: type[HeadGate] = HeadGate,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kit = LayerKit(
            ops=ops,
            attention=attention,
            attended=attended,
            rotate=rotate,
            gate=gate,
            device=device,
            dtype=dtype,
        )
        self.config = config
        self.x_embedder = kit.linear(config.patch_size**2 * config.in_channels, config.dim)
        self.t_embedder = TimeEmbedder(config.condition_dim, kit)
        self.cap_embedder = nn.Sequential(
            kit.layer_norm(config.caption_dim, eps=1e-5),
            kit.linear(config.caption_dim, config.condition_dim),
        )
        self.layers = nn.ModuleList(Block(config, kit) for _ in range(config.layers))
        self.final_layer = FinalLayer(config, kit)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        caption: Tensor,
        caption_mask: Tensor | None = None,
        options: ForwardOptions | None = None,
    ) -> Tensor:
        """Velocity (B, C, H, W) of the noisy latent `x` (B, C, H, W) at time `t` (B,).

        t: 0 noise, 1 picture. caption (B, S, caption_dim): text features, in the dtype of `x`.
        caption_mask (B, S): 1 for a token, 0 for padding; None where nothing is padded.
        Raises ValueError if H or W is not a multiple of the patch size.
        """
        size = self.config.patch_size
        tokens = self.x_embedder(patchify(x, size))  # (B, L, D)
        height, width = x.shape[-2] // size, x.shape[-1] // size
        options = options or ForwardOptions()
        if options.rotation is None:
            table = rope.trained_table((height, width), self.config.head_dim, x.device)
            options = replace(options, rotation=table)
        condition = self.t_embedder(t, x.dtype)
        condition = condition + self.cap_embedder(masked_mean(caption, caption_mask))
        mask = additive_mask(caption_mask, x.dtype)
        tokens = self.run_blocks(tokens, caption, mask, condition, options)
        patches = self.final_layer(tokens, condition)
        return unpatchify(patches, height, width, size)[:, : self.config.in_channels]

    def run_blocks(
        self,
        x: Tensor,
        caption: Tensor,
        mask: Tensor | None,
        condition: Tensor,
        options: ForwardOptions,
    ) -> Tensor:
        """All layers in order; a host overrides this to apply its patches to each."""
        for index, block in enumerate(self.layers):
            x = block(x, caption, mask, condition, options.for_layer(index))
        return x
