"""What Next-DiT and Flag-DiT share: from a noisy latent, a time and a caption to a velocity.

Attribute names are the released checkpoints' own, so their files load without renaming. Layers and
attention are handed in: plain torch by default, ComfyUI's when it runs the model. Nothing about
a run is stored on a module; `forward` gets it as `ForwardOptions`.

Axes: B batch, L image tokens, S caption tokens, D width, C latent channels, H rows, W columns.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import rope
from ..config import DiTConfig
from ..options.forward import ForwardOptions
from .caption import additive_mask, masked_mean
from .layers import (
    NO_HOOKS,
    Attention,
    AttentionHooks,
    HeadGate,
    LayerKit,
    LearnedToken,
    Operations,
    Rotate,
    TimeEmbedder,
    scaled_dot_product_attention,
)
from .patches import patchify, unpatchify


class DiT(nn.Module):
    """A text-to-image diffusion transformer; each network says what its layers are.

    The keyword arguments are those of a `LayerKit`, with which a host builds it from its own
    layers. Weights are not initialized.
    """

    def __init__(
        self,
        config: DiTConfig,
        *,
        ops: Operations = nn,
        attention: Attention = scaled_dot_product_attention,
        hooks: AttentionHooks = NO_HOOKS,
        rotate: Rotate = rope.rotate,
        gate: type[HeadGate] = HeadGate,
        token: type[LearnedToken] = LearnedToken,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.build(
            LayerKit(
                ops=ops,
                attention=attention,
                hooks=hooks,
                rotate=rotate,
                gate=gate,
                token=token,
                device=device,
                dtype=dtype,
            )
        )

    def build(self, kit: LayerKit) -> None:
        """Make the modules."""
        config = self.config
        self.x_embedder = kit.linear(config.patch_size**2 * config.in_channels, config.dim)
        self.t_embedder = TimeEmbedder(config.condition_dim, kit)
        self.cap_embedder = nn.Sequential(
            kit.layer_norm(config.caption_dim, eps=1e-5),
            kit.linear(config.caption_dim, config.condition_dim),
        )
        self.layers = nn.ModuleList(self.layer(kit) for _ in range(config.layers))
        self.final_layer = self.last_layer(kit)

    def layer(self, kit: LayerKit) -> nn.Module:
        """One layer: (x, caption, mask, condition, options) -> x, as `run_blocks` calls it."""
        raise NotImplementedError

    def last_layer(self, kit: LayerKit) -> nn.Module:
        """Tokens (B, L, D) and condition to patches (B, L, patch_size**2 * out_channels)."""
        raise NotImplementedError

    def sequence(self, tokens: Tensor, width: int) -> Tensor:
        """The tokens that the layers see, from those of the picture, `width` to a row."""
        return tokens

    def picture(self, tokens: Tensor, width: int) -> Tensor:
        """The picture's own among the tokens of `sequence`."""
        return tokens

    def axis_lengths(self, height: int, width: int) -> Sequence[int]:
        """How many positions each RoPE axis has for a picture of height x width tokens."""
        return height, width

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
        Raises ValueError if H or W is not a multiple of the patch size, or if the captions of
        regions are not as long as `options` say.
        """
        size = self.config.patch_size
        tokens = self.x_embedder(patchify(x, size))  # (B, H * W / size**2, D)
        height, width = x.shape[-2] // size, x.shape[-1] // size
        options = options or ForwardOptions()
        if options.rotation is None:
            lengths = tuple(self.axis_lengths(height, width))
            table = rope.trained_table(lengths, self.config.head_dim, x.device)
            options = replace(options, rotation=table)
        condition = self.t_embedder(t, x.dtype)
        condition = condition + self.cap_embedder(_pooled(caption, caption_mask, options))
        mask = additive_mask(caption_mask, x.dtype, options.caption_lengths)
        tokens = self.sequence(tokens, width)
        tokens = self.cached_blocks(tokens, caption, mask, condition, options)
        patches = self.picture(self.final_layer(tokens, condition), width)
        return unpatchify(patches, height, width, size)[:, : self.config.in_channels]

    def cached_blocks(
        self,
        x: Tensor,
        caption: Tensor,
        mask: Tensor | None,
        condition: Tensor,
        options: ForwardOptions,
    ) -> Tensor:
        """All layers, or what they added in an earlier step where that is near enough."""

        def layers() -> Tensor:
            return self.run_blocks(x, caption, mask, condition, options)

        if options.cached is None:
            return layers()
        return options.cached.tokens(x, self.first_read(x, condition), layers)

    def first_read(self, x: Tensor, condition: Tensor) -> Tensor:
        """What the first layer's attention reads of its input (B, L, D), normalized and scaled."""
        raise NotImplementedError

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


def _pooled(caption: Tensor, mask: Tensor | None, options: ForwardOptions) -> Tensor:
    """The mean (B, caption_dim) of the caption, of several of the global one."""
    if options.regions is None:
        return masked_mean(caption, mask)
    options.regions.check(caption)
    of_global = options.regions.of_global
    return masked_mean(of_global(caption), None if mask is None else of_global(mask))
