"""Other nodes' patches of self-attention, called as the host's Flux calls them.

They come in pairs: one changes queries, keys and values, such as by merging tokens, and its partner
undoes that on the output. Patches for U-Nets are called differently, and are refused.
"""

import inspect
from collections.abc import Callable, Mapping

from torch import Tensor

from ...lumina.model.layers import AttentionHooks
from .ops import for_each_head
from .transformer_options import HostForwardOptions, patches

FOR_U_NETS = (
    'A node before the sampler patches self-attention ("attn1_patch") as it is in U-Nets, such as '
    "that of Stable Diffusion; Lumina-Next is no U-Net. Remove that node (HyperTile, Token "
    "Merging, Hypernetwork and the like)."
)
KEYWORDS = ("pe", "attn_mask", "extra_options")


class PatchedAttention(AttentionHooks):
    """`attn1_patch` and `attn1_output_patch` of the call's transformer_options."""

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
