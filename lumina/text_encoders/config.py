"""The architecture of a decoder: its family, and sizes from a checkpoint's shapes.

Gemma (arXiv:2403.08295), Llama 2 (arXiv:2307.09288).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Family:
    """The four differences between families of decoders.

    norm_offset is added to a norm's stored weight. scales_embeddings: by the square root of D.
    ties_head: the embedding is also the output head.
    """

    name: str
    activation: Callable[[Tensor], Tensor]
    norm_offset: float
    scales_embeddings: bool
    ties_head: bool


FAMILIES = {
    "gemma": Family("Gemma-1", partial(F.gelu, approximate="tanh"), 1.0, True, True),
    "llama": Family("LLaMA-2", F.silu, 0.0, False, False),
}


@dataclass(frozen=True)
class DecoderConfig:
    """Family (a key of FAMILIES) and sizes of a decoder. Raises ValueError if they do not fit.

    has_output_head: the weights include a separate one, `lm_head`. ties_head: the embedding is one
    too, as always in some families.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float = 1e-6
    rope_theta: float = 1e4
    has_output_head: bool = False
    ties_head: bool = False

    def __post_init__(self) -> None:
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(
                "The text encoder's heads must be a multiple of its kv_heads, got "
                f"{self.heads} and {self.kv_heads}"
            )
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(
                f"The text encoder rotates pairs, so head_dim must be even, got {self.head_dim}"
            )

    @property
    def norm_offset(self) -> float:
        return FAMILIES[self.family].norm_offset
