"""Sizes of pictures: those that the models were trained at, and how far others are beyond them.

Lumina-Next was trained on pictures of many shapes and about one area: sides in multiples of 16 px,
at most 4:1, no more tokens than the square picture has (the released code's list of crop sizes).
"""

from dataclasses import dataclass

from .config import PX_PER_TOKEN
from .parameters import Parameter

RELEASED_SIZE = 1024  # px, of Lumina-Next-SFT and -T2I
DEMO_SIZE = 128  # px, of the demo model
SIDE = {
    name: Parameter(
        RELEASED_SIZE,
        PX_PER_TOKEN,
        16384,
        f"{name.capitalize()} of the picture in pixels, a multiple of {PX_PER_TOKEN}. Lumina-Next "
        f"was trained with about {RELEASED_SIZE} x {RELEASED_SIZE} pixels.",
        step=PX_PER_TOKEN,
    )
    for name in ("width", "height")
}
BATCH_SIZE = Parameter(1, 1, 4096, "How many pictures to draw at once. More take more memory.")


@dataclass(frozen=True)
class PictureSize:
    """Width and height in pixels. trained_size: side of the square pictures of the training.

    Raises ValueError for a side that is out of range or no multiple of 16 px.
    """

    width: int
    height: int
    trained_size: int = RELEASED_SIZE

    def __post_init__(self) -> None:
        for name, parameter in SIDE.items():
            side = getattr(self, name)
            parameter.check(name, side)
            if side % PX_PER_TOKEN:
                lower = side // PX_PER_TOKEN * PX_PER_TOKEN
                raise ValueError(
                    f"{name} {side} is not a multiple of {PX_PER_TOKEN} px. Nearest: "
                    f"{lower} or {lower + PX_PER_TOKEN}."
                )

    @property
    def name(self) -> str:
        return f"{self.width} x {self.height}"

    @property
    def shape(self) -> str:
        """square, portrait or landscape; from 2:1 on tall or panorama."""
        if self.width == self.height:
            return "square"
        is_long = max(self.width, self.height) >= 2 * min(self.width, self.height)
        if self.width > self.height:
            return "panorama" if is_long else "landscape"
        return "tall" if is_long else "portrait"

    @property
    def times_trained(self) -> float:
        """Its area over that of the square pictures of the training."""
        return self.width * self.height / self.trained_size**2

    @property
    def megapixels(self) -> str:
        """Millions of pixels, rounded."""
        millions = self.width * self.height / 1e6
        return f"{millions:.1f}" if millions >= 0.1 else f"{millions:.1g}"

    @property
    def summary(self) -> str:
        """Such as "panorama, 2.1 megapixels, 2 x trained", which compares areas."""
        beyond = f", {self.times_trained:.2g} x trained"
        return f"{self.shape}, {self.megapixels} megapixels" + (
            beyond if self.times_trained > 1 else ""
        )


def _by_name(*sizes: PictureSize) -> dict[str, PictureSize]:
    return {size.name: size for size in sizes}


TRAINED = _by_name(
    PictureSize(1024, 1024),
    PictureSize(1152, 896),
    PictureSize(1248, 832),
    PictureSize(1360, 768),
    PictureSize(1440, 720),
    PictureSize(2048, 512),
    PictureSize(896, 1152),
    PictureSize(832, 1248),
    PictureSize(768, 1360),
    PictureSize(512, 2048),
)
# The released demo's own, which it calls extrapolation.
BEYOND = _by_name(
    PictureSize(1536, 1536),
    PictureSize(2048, 1024),
    PictureSize(1024, 2048),
    PictureSize(2048, 2048),
    PictureSize(4096, 1024),
    PictureSize(1024, 4096),
)
DEMO = _by_name(PictureSize(DEMO_SIZE, DEMO_SIZE, trained_size=DEMO_SIZE))
SIZES = TRAINED | BEYOND | DEMO
