"""The pack's icon and banner for ComfyUI's registry: docs/icon.png and docs/banner.png.

    python -m tools.artwork

Both show what the model does: a picture of light, one dot for each token, comes out of noise. From
left to right the noise level falls as the "sigmoid" schedule lets it. Drawn anew, they have the
same pixels.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

from lumina.checkpoints.convert.disk import atomic_write
from lumina.schedules import SCHEDULES

from .environment import ROOT

Color = tuple[float, float, float]

NIGHT: Color = (13, 11, 32)
# From the middle of the light outward: where a color stands, as a share of the way, and the color.
LIGHT: Sequence[tuple[float, Color]] = (
    (0.0, (255, 250, 226)),
    (0.22, (255, 214, 110)),
    (0.42, (249, 132, 74)),
    (0.62, (201, 62, 122)),
    (0.82, (92, 46, 145)),
    (1.0, (38, 30, 82)),
)
SMOOTHING = 4  # each pixel is the mean of 4 x 4


@dataclass(frozen=True)
class Artwork:
    """A grid of dots, dot_px apart. center: the light's middle (row, column), and reach: how far it
    shines, both in dots.
    """

    rows: int
    columns: int
    dot_px: int
    center: tuple[float, float]
    reach: float


# The registry asks for a square of at most 400 x 400 px, and for 21:9.
ARTWORKS = {
    "icon.png": Artwork(rows=10, columns=10, dot_px=40, center=(4.5, 6.0), reach=6.5),
    "banner.png": Artwork(rows=18, columns=42, dot_px=40, center=(8.5, 30.0), reach=17.0),
}


def main() -> None:
    for name, artwork in ARTWORKS.items():
        path = ROOT / "docs" / name
        save(artwork, path)
        print(path.relative_to(ROOT))


def save(artwork: Artwork, path: Path) -> None:
    with atomic_write(path) as file:
        draw(artwork).save(file, "PNG", optimize=True)


def draw(artwork: Artwork) -> Image.Image:
    """The artwork in RGB, columns * dot_px wide and rows * dot_px high."""
    width, height = artwork.columns * artwork.dot_px, artwork.rows * artwork.dot_px
    large = Image.new("RGB", (width * SMOOTHING, height * SMOOTHING), rounded(NIGHT))
    pen = ImageDraw.Draw(large)
    noise = random.Random(0)
    levels = SCHEDULES["sigmoid"](artwork.columns - 1).tolist()
    for row in range(artwork.rows):
        for column, level in enumerate(levels):
            brightness, color = dot(artwork, row, column)
            grain = noise.random()
            color = mixed(color, (90 + 110 * grain,) * 3, level)
            radius = 0.12 + 0.34 * ((1 - level) * brightness + level * grain)
            draw_dot(pen, (row, column), artwork.dot_px * SMOOTHING, radius, color)
    return large.reduce(SMOOTHING)


def dot(artwork: Artwork, row: int, column: int) -> tuple[float, Color]:
    """How bright the finished picture is at a token, from 0 to 1, and its color."""
    center_row, center_column = artwork.center
    away = math.hypot(row - center_row, column - center_column) / artwork.reach
    away = min(away, 1.0)
    return (1 - away) ** 0.7, gradient(away)


def gradient(place: float) -> Color:
    for (start, inner), (end, outer) in pairwise(LIGHT):
        if place <= end:
            return mixed(inner, outer, (place - start) / (end - start))
    return LIGHT[-1][1]


def mixed(one: Color, other: Color, share: float) -> Color:
    """The color between both; share 0 is the first, 1 the other."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def draw_dot(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], cell: int, radius: float, color: Color
) -> None:
    """A dot in the middle of its cell. cell: in pixels. radius: as a share of the cell."""
    y, x = ((index + 0.5) * cell for index in place)
    reach = radius * cell
    pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=rounded(color))


def rounded(color: Color) -> tuple[int, int, int]:
    red, green, blue = map(round, color)
    return red, green, blue


if __name__ == "__main__":
    main()
