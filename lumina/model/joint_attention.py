"""Self-attention of the picture and, through a gate for each head, cross-attention to the caption.

Axes: B batch, L image tokens, S caption tokens, D width.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..config import DiTConfig
from ..options.context_drop import Cells
from ..options.forward import ForwardOptions
from .layers import LayerKit
from .pieces import in_pieces

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class JointAttention(nn.Module):
    """Image tokens attend to each other and, through a gate for each head, to the caption.

    Both streams share the rotated queries and the output projection; caption keys are not
    rotated. Queries and keys are normalized over all heads at once (`qk_norm`).
    """

    def __init__(self, config: DiTConfig, kit: LayerKit) -> None:
        super().__init__()
        self.attention, self.hooks, self.rotate = kit.attention, kit.hooks, kit.rotate
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
        self,
        x: Tensor,
        caption: Tensor,
        caption_norm: nn.Module,
        mask: Tensor | None,
        options: ForwardOptions,
    ) -> Tensor:
        """x (B, L, D), caption (B, S, caption_dim), mask: bias (B, 1, 1, S) -> (B, L, D).

        caption_norm: the layer's norm of captions. Raises ValueError if hooks leave other tokens
        of the picture to self-attention than to cross-attention.
        """
        q, k = _heads(self.q_norm(self.wq(x)), self.heads), self._kv_heads(self.k_norm(self.wk(x)))
        q, k, v, rotation = self.hooks.inputs(q, k, self._kv_heads(self.wv(x)), options)
        few = options.tokens_per_norm
        q, k = self._rotated(q, rotation, few), self._rotated(k, rotation, few)
        if options.cells is not None and options.drops is None:
            k, v = options.cells.pooled(k), options.cells.pooled(v)

        image = self._look(q, k, v, options)
        seen = self.hooks.reading(x, caption, mask, options)
        if seen.x is not x:
            q = _heads(self.q_norm(self.wq(seen.x)), self.heads)
            q = self._rotated(q, options.rotation, few)
        keys = caption_norm(seen.keys)
        values = keys if seen.values is seen.keys else caption_norm(seen.values)
        k, v = self._kv_heads(self.ky_norm(self.wk_y(keys))), self._kv_heads(self.wv_y(values))
        text = self.hooks.read(self._read(q, k, v, seen.mask, options), options)
        if text.shape != image.shape:
            raise ValueError(
                "Patches of attention do not fit together: self-attention is left with "
                f"{len(image)} x {image.shape[2]} tokens, cross-attention with {len(text)} x "
                f"{text.shape[2]}. Remove one of the nodes that patch the model."
            )
        del q, k, v, seen  # as large as x, while the sum takes the memory that they hold
        out = self.gate(text).add_(image).transpose(1, 2).flatten(2)  # (B, L, D)
        return self.wo(self.hooks.output(out, options))

    def _look(self, q: Tensor, k: Tensor, v: Tensor, options: ForwardOptions) -> Tensor:
        """What each token (B, heads, L, head_dim) sees in the picture."""
        scale = self.scale if options.self_attention_scale is None else options.self_attention_scale
        attend = partial(self.attention, mask=None, scale=scale, options=options)
        if options.cells is None or options.drops is None:
            return attend(q, k, v)
        return _over_cells_or_all(options.drops, options.cells, attend, q, k, v)

    def _read(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: ForwardOptions
    ) -> Tensor:
        """What each token (B, heads, L, head_dim) reads in its captions."""
        if options.regions is None:
            return self.attention(q, k, v, mask=mask, scale=self.scale, options=options)
        total = torch.zeros_like(q)
        for share, *caption, padding in options.regions.captions(k, v, mask):
            read = self.attention(q, *caption, mask=padding, scale=self.scale, options=options)
            total = total.addcmul_(read, share)
        return total

    def _rotated(self, x: Tensor, rotation: Tensor | None, few: int | None) -> Tensor:
        if rotation is None:
            raise ValueError(
                "self-attention needs the RoPE table that the network's forward fills in"
            )
        return in_pieces(self.rotate, few, x.transpose(1, 2), rotation).transpose(1, 2)

    def _kv_heads(self, x: Tensor) -> Tensor:
        return _heads(x, self.kv_heads)


def _over_cells_or_all(
    drops: Tensor, cells: Cells, attend: Attend, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Attention over the means of cells where `drops` is True, else over all tokens.

    For compiled code, which holds both and decides when it runs.
    """

    # As one axis: branches must lie in memory alike, which torch does not see in several axes of
    # sizes that may change. Fast attention gives it in this order, so that nothing is copied.
    def over_cells(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, cells.pooled(k), cells.pooled(v)).transpose(1, 2).reshape(-1)

    def over_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v).transpose(1, 2).reshape(-1)

    out = torch.cond(drops, over_cells, over_all, (q, k, v))
    return out.view(q.transpose(1, 2).shape).transpose(1, 2)


def _heads(x: Tensor, count: int) -> Tensor:
    """x (B, L, count * head_dim) -> (B, count, L, head_dim)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _identity(dim: int, eps: float) -> nn.Module:
    return nn.Identity()
