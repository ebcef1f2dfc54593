"""What the diffusion transformers are made of. Every field can be read from a checkpoint's shapes.

Next-DiT is Lumina-Next's, arXiv:2406.18583, in the sizes of Lumina-T2X's lumina_next_t2i; Flag-DiT
is that of the first Lumina, arXiv:2405.05945, in the size of its lumina_t2i.
"""

from dataclasses import dataclass
from typing import ClassVar

PATCH_SIZE = 2  # latents along a token's side in every model; shapes tell only its area
PX_PER_LATENT = 8  # of the VAEs of SD 1.5 and SDXL
PX_PER_TOKEN = PATCH_SIZE * PX_PER_LATENT


@dataclass(frozen=True)
class DiTConfig:
    """Architecture of one text-to-image diffusion transformer of the family.

    Raises ValueError if the widths cannot be divided into heads or the heads into groups.
    """

    network: ClassVar[str]
    rope_axes: ClassVar[int]

    dim: int
    layers: int
    heads: int
    kv_heads: int
    caption_dim: int
    ffn_dim: int
    qk_norm: bool = True
    in_channels: int = 4
    patch_size: int = PATCH_SIZE
    learn_sigma: bool = True
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"width {self.dim} cannot be divided into {self.heads} heads")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} query heads cannot share {self.kv_heads} key and value heads evenly"
            )
        if self.head_dim % (2 * self.rope_axes):
            raise ValueError(
                f"{self.rope_axes}-D RoPE needs a head size divisible by {2 * self.rope_axes}, got "
                f"{self.head_dim}"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def kv_dim(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def condition_dim(self) -> int:
        """Width of the vector that time and pooled caption make together."""
        return min(self.dim, 1024)

    @property
    def out_channels(self) -> int:
        """Channels the final layer writes; only the first `in_channels` are the velocity."""
        return 2 * self.in_channels if self.learn_sigma else self.in_channels


@dataclass(frozen=True)
class NextDiTConfig(DiTConfig):
    """A Next-DiT: tokens have a row and a column."""

    network = "Next-DiT"
    rope_axes = 2


@dataclass(frozen=True)
class FlagDiTConfig(DiTConfig):
    """A Flag-DiT: tokens stand in one line, with a line-end token after each row of the picture."""

    network = "Flag-DiT"
    rope_axes = 1


NEXT_DIT_2B = NextDiTConfig(
    dim=2304, layers=24, heads=32, kv_heads=32, caption_dim=2048, ffn_dim=6144
)
NEXT_DIT_2B_GQA = NextDiTConfig(
    dim=2304, layers=24, heads=32, kv_heads=8, caption_dim=2048, ffn_dim=6144
)
FLAG_DIT_5B = FlagDiTConfig(
    dim=3072, layers=32, heads=32, kv_heads=32, caption_dim=4096, ffn_dim=8192
)
