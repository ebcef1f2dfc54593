"""Other nodes' patches of attention: of self-attention as the host's Flux calls them, of
cross-attention as its U-Nets do.

They come in pairs. Of self-attention, one changes queries, keys and values, such as by merging
tokens, and its partner undoes that on the output; patches for U-Nets are called differently, and
are refused. Of cross-attention, one gets what is projected, repeats each picture for its regions
and brings their captions; its partner adds what the regions read, weighed by their masks.
"""

import inspect
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ...lumina.model.caption import additive_mask
from ...lumina.model.layers import AttentionHooks, Reading
from .ops import for_each_head
from .transformer_options import HostForwardOptions, patches

FOR_U_NETS = (
    'A node before the sampler patches self-attention ("attn1_patch") as it is in U-Nets, such as '
    "that of Stable Diffusion; Lumina-Next is no U-Net. Remove that node (HyperTile, Token "
    "Merging, Hypernetwork and the like)."
)
OTHER_REGIONS = (
    "The prompt has regions, and a node before the sampler patches cross-attention "
    '("attn2_patch"), as nodes for regions of other packs do. Use one of the two.'
)
NO_GRID = (
    'A node before the sampler patches cross-attention ("attn2_patch"), as nodes for regions of '
    "other packs do. They take the tokens for a grid, and in a Flag-DiT, such as Lumina-T2I, each "
    'row has one more. Use "Lumina-Next Regions".'
)
NOT_CROSS = (
    'A node before the sampler patches cross-attention ("attn2_patch") in a way that this model '
    "cannot follow: a patch takes n, context, value and extra_options, and returns the first three."
)
KEYWORDS = ("pe", "attn_mask", "extra_options")


class PatchedAttention(AttentionHooks):
    """The call's patches: `attn1_patch`, `attn2_patch` and the `_output_patch` of each."""

    def inputs(
        self, q: Tensor, k: Tensor, v: Tensor, options: HostForwardOptions
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        rotation, transformer_options = options.rotation, options.transformer_options
        for patch in patches(transformer_options, "attn1_patch"):
            k, v = for_each_head(k, q), for_each_head(v, q)  # other models do not share them
            out = _call(patch, q, k, v, rotation, transformer_options)
            q, k, v = (out.get(name, given) for name, given in (("q", q), ("k", k), ("v", v)))
            rotation = out.get("pe", rotation)
        return q, k, v, rotation

    def output(self, out: Tensor, options: HostForwardOptions) -> Tensor:
        for patch in patches(options.transformer_options, "attn1_output_patch"):
            out = patch(out, options.transformer_options)
        return out

    def reading(
        self, x: Tensor, caption: Tensor, mask: Tensor | None, options: HostForwardOptions
    ) -> Reading:
        found = patches(options.transformer_options, "attn2_patch")
        if not found:
            return Reading(x, caption, caption, mask)
        _check_cross(x, options)
        # They know no masks: padding is zeros, and stays so while they repeat and join captions.
        keys = values = caption if mask is None else caption * (mask[:, 0, 0, :, None] == 0)
        for patch in found:
            x, keys, values = _call_cross(patch, x, keys, values, options.transformer_options)
        keys, values = keys.to(x), values.to(x)
        return Reading(x, keys, values, additive_mask(keys.any(dim=-1), x.dtype))

    def read(self, text: Tensor, options: HostForwardOptions) -> Tensor:
        found = patches(options.transformer_options, "attn2_output_patch")
        if not found:
            return text
        heads = text.shape[1]
        out = text.transpose(1, 2).flatten(2)
        for patch in found:
            out = patch(out, options.transformer_options)
        return out.unflatten(2, (heads, -1)).transpose(1, 2)


def _check_cross(x: Tensor, options: HostForwardOptions) -> None:
    """Raise ValueError where patches of cross-attention would draw something wrong."""
    if options.regions is not None:
        raise ValueError(OTHER_REGIONS)
    height, width = options.transformer_options["activations_shape"][-2:]
    if x.shape[1] != height * width:
        raise ValueError(NO_GRID)


def _call_cross(
    patch: Callable[..., tuple[Tensor, Tensor, Tensor]],
    x: Tensor,
    keys: Tensor,
    values: Tensor,
    transformer_options: Mapping[str, object],
) -> tuple[Tensor, Tensor, Tensor]:
    """What the patch makes of them. Raises ValueError unless those are three tensors."""
    out = patch(x, keys, values, transformer_options)
    if not isinstance(out, tuple | list) or [*map(torch.is_tensor, out)] != [True] * 3:
        raise ValueError(NOT_CROSS)
    x, keys, values = out
    return x, keys, values


def _call(
    patch: Callable[..., Mapping[str, object]],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rotation: Tensor | None,
    transformer_options: Mapping[str, object],
) -> Mapping[str, object]:
    """What the patch changes, by name. Raises ValueError for a patch of U-Nets."""
    keywords = dict(zip(KEYWORDS, (rotation, None, transformer_options), strict=True))
    try:
        inspect.signature(patch).bind(q, k, v, **keywords)
    except TypeError as error:
        raise ValueError(FOR_U_NETS) from error
    out = patch(q, k, v, **keywords)
    if not isinstance(out, Mapping):
        raise ValueError(FOR_U_NETS)
    return out
