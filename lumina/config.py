"""What a Next-DiT is made of. Every field can be read from a checkpoint's shapes.

Lumina-Next, arXiv:2406.18583; the released sizes are those of Lumina-T2X's lumina_next_t2i.
"""

from dataclasses import dataclass

PATCH_SIZE = 2  # latents along a token's side in every Next-DiT; shapes tell only its area
PX_PER_LATENT = 8  # of the VAEs of SD 1.5 and SDXL
PX_PER_TOKEN = PATCH_SIZE * PX_PER_LATENT


@dataclass(frozen=True)
class NextDiTConfig:
    """Architecture of one text-to-image Next-DiT.

    Raises ValueError if the widths cannot be divided into heads or the heads into groups.
    """

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
        if self.head_dim % 4:
            raise ValueError(f"2-D RoPE needs a head size divisible by 4, got {self.head_dim}")

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


NEXT_DIT_2B = NextDiTConfig(
    dim=2304, layers=24, heads=32, kv_heads=32, caption_dim=2048, ffn_dim=6144
)
NEXT_DIT_2B_GQA = NextDiTConfig(
    dim=2304, layers=24, heads=32, kv_heads=8, caption_dim=2048, ffn_dim=6144
)
