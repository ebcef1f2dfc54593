"""What one run may change about a forward pass. Handed to `NextDiT.forward`, never stored on it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class ForwardOptions:
    """Settings of a single forward pass; the defaults are the model as trained.

    rotation: RoPE table (1, L, 1, head_dim / 2, 2, 2) from `rope.rotation_table`;
        None takes the trained frequencies for the latent's own size.
    self_attention_scale: softmax scale of self-attention; None is 1 / sqrt(head_dim).
        Cross-attention always keeps 1 / sqrt(head_dim).
    """

    rotation: Tensor | None = None
    self_attention_scale: float | None = None

    def attended(self, out: Tensor) -> Tensor:
        """What attention gives (B, L, D) before its output projection; a host may patch it here."""
        return out
