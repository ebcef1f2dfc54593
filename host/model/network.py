"""The networks on the host's layers, with the call signature and patches of its diffusion models.

It converts between two conventions. The host: sigma 1 noise, 0 picture; a flow model returns
noise - picture. The network: t = 1 - sigma, velocity = picture - noise.
"""

import dataclasses
from collections.abc import Callable, Mapping

import comfy.ldm.common_dit
import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ...lumina.config import DiTConfig, FlagDiTConfig, NextDiTConfig
from ...lumina.model.backbone import DiT
from ...lumina.model.flag_dit import FlagDiT
from ...lumina.model.next_dit import NextDiT
from .. import versions
from .attention_patches import PatchedAttention
from .ops import CastingHeadGate, CastingToken, finite_in_float16, image_attention, rotate
from .transformer_options import HostForwardOptions, patches


class HostDiT(DiT):
    """The diffusion_model of a `LuminaNext`, which applies other nodes' patches."""

    config_class: type[DiTConfig]

    def __init__(
        self,
        *,
        dtype: torch.dtype,
        device: torch.device | None,
        operations: type,
        image_model: str,
        **sizes: object,
    ) -> None:
        super().__init__(
            self.config_class(**sizes),
            ops=finite_in_float16(operations) if dtype == torch.float16 else operations,
            attention=image_attention,
            hooks=PatchedAttention(),
            rotate=rotate,
            gate=CastingHeadGate,
            token=CastingToken,
            device=device,
            dtype=dtype,
        )
        self.dtype = dtype
        self.in_channels = self.config.in_channels
        self.patch_size = self.config.patch_size

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        attention_mask: Tensor | None = None,
        **kwargs: object,
    ) -> Tensor:
        """noise - picture (B, C, H, W) of the latent `x` at sigma `timesteps` (B,)."""
        wrappers = comfy.patcher_extension.get_all_wrappers(
            comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL,
            kwargs.get("transformer_options", {}),
        )
        if wrappers:
            # EasyCache writes into it, and in float32 it is the sampler's own latent.
            x = x.clone()
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(
            self._forward, self, wrappers
        )
        return executor.execute(x, timesteps, context, attention_mask, **kwargs)

    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        attention_mask: Tensor | None = None,
        options: HostForwardOptions | None = None,
        transformer_options: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> Tensor:
        height, width = x.shape[-2:]
        original_shape = list(x.shape)
        x = comfy.ldm.common_dit.pad_to_patch_size(x, (self.patch_size, self.patch_size))
        tokens = [side // self.patch_size for side in x.shape[-2:]]
        transformer_options = dict(
            transformer_options or {},
            total_blocks=len(self.layers),
            block_type="double",
            # As in U-Nets, for patches of cross-attention.
            original_shape=original_shape,
            activations_shape=[len(x), self.config.dim, *tokens],
            n_heads=self.config.heads,
            dim_head=self.config.head_dim,
        )
        options = dataclasses.replace(
            options or HostForwardOptions(), transformer_options=transformer_options, latent=x
        )
        velocity = super().forward(x, 1.0 - timesteps, context, attention_mask, options)
        return -velocity[:, :, :height, :width]

    def run_blocks(
        self,
        x: Tensor,
        caption: Tensor,
        mask: Tensor | None,
        condition: Tensor,
        options: HostForwardOptions,
    ) -> Tensor:
        """All layers in order, each prefetched, with other nodes' patches applied."""
        transformer_options, first = options.transformer_options, x
        queue = versions.make_prefetch_queue(list(self.layers), x.device, transformer_options)
        for index, block in enumerate(self.layers):
            versions.prefetch_queue_pop(queue, x.device, block)
            transformer_options["block_index"] = index
            layer_options = options.for_layer(index)
            if _is_patched(index, transformer_options):
                x = _run_patched(index, block, x, first, caption, mask, condition, layer_options)
            else:
                x = block(x, caption, mask, condition, layer_options)
        versions.prefetch_queue_pop(queue, x.device, None)
        return x


class HostNextDiT(HostDiT, NextDiT):
    """Next-DiT in the host."""

    config_class = NextDiTConfig


class HostFlagDiT(HostDiT, FlagDiT):
    """Flag-DiT in the host."""

    config_class = FlagDiTConfig


NETWORKS = {network.config_class: network for network in (HostNextDiT, HostFlagDiT)}


def _is_patched(index: int, transformer_options: Mapping[str, object]) -> bool:
    return _replacement(index, transformer_options) is not None or bool(
        patches(transformer_options, "double_block")
    )


def _replacement(index: int, transformer_options: Mapping[str, object]) -> Callable | None:
    replacements = transformer_options.get("patches_replace", {}).get("dit", {})
    return replacements.get(("double_block", index))


def _run_patched(
    index: int,
    block: nn.Module,
    x: Tensor,
    first: Tensor,
    caption: Tensor,
    mask: Tensor | None,
    condition: Tensor,
    options: HostForwardOptions,
) -> Tensor:
    """One layer with the patches of other nodes, which take and return dicts such as `args`.

    first: the input (B, L, D) of the first layer.
    """
    transformer_options = options.transformer_options
    args = {
        "img": x,
        "img_input": first,
        "txt": caption,
        "vec": condition,
        "pe": options.rotation,
        "attn_mask": mask,
        "x": options.latent,
        "block_index": index,
        "transformer_options": transformer_options,
    }

    def original(args: Mapping[str, object]) -> dict[str, object]:
        out = block(args["img"], args["txt"], args["attn_mask"], args["vec"], options)
        return {"img": out, "txt": args["txt"]}

    replacement = _replacement(index, transformer_options)
    out = replacement(args, {"original_block": original}) if replacement else original(args)
    for patch in patches(transformer_options, "double_block"):
        out = {**out, **patch({**args, "img": out["img"]})}
    return out["img"]
