"""SIGMAS as a picture: the noise level at each step, a line for each of several SIGMAS."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .links import SIGMAS, check_link
from .model.finite import check_given

WIDTH, HEIGHT = 768, 512
LEFT, TOP, RIGHT, BOTTOM = 72, 24, 744, 456  # where the lines are, in the picture
FONT, LINE, DOT, LEGEND_ROW = 15, 2, 7, 22
# Pillow's lines have hard edges: drawn so many times larger, they are smooth once reduced.
OVERSAMPLING = 3
INK, PALE = "#333333", "#e4e4e4"
# Okabe and Ito's colors, which stay apart for color-blind eyes.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MAX_DOTS = 100  # more of them would run together

Point = tuple[float, float]


def draw_sigmas(sigmas: Mapping[str, Tensor]) -> Tensor:
    """IMAGE (1, HEIGHT, WIDTH, 3) with the levels of each SIGMAS, called by its name, over steps.

    The vertical axis ends at 1, or at the highest sigma where one is above it. Raises ValueError
    for anything else in place of a link, and for sigmas that are not finite.
    """
    for name, item in sigmas.items():
        check_link(item, name, SIGMAS)
        check_given(item, name, "Connect another scheduler.")
    lines = {name: item.flatten().tolist() for name, item in sigmas.items()}
    steps = max([1, *(len(line) - 1 for line in lines.values())])
    highest = max([1.0, *(sigma for line in lines.values() for sigma in line)])
    pen = Pen()
    _draw_axes(pen, steps, highest)
    for row, ((name, line), color) in enumerate(zip(lines.items(), cycle(COLORS), strict=False)):
        points = [_place(i / steps, sigma / highest) for i, sigma in enumerate(line)]
        if len(points) > 1:
            pen.line(points, color)
        if len(points) <= MAX_DOTS:
            pen.dots(points, color)
        legend = f"{name}, {max(len(line) - 1, 0)} steps"
        pen.text((RIGHT, TOP + row * LEGEND_ROW), legend, color, "ra")
    return pen.image()


def _draw_axes(pen: "Pen", steps: int, highest: float) -> None:
    for share in (0, 0.5, 1):
        pen.line([_place(0, share), _place(1, share)], PALE)
        pen.text((LEFT - 10, _place(0, share)[1]), f"{share * highest:.3g}", INK, "rm")
    for step in sorted({0, steps // 2, steps}):
        pen.text((_place(step / steps, 0)[0], BOTTOM + 8), str(step), INK, "ma")
    pen.text((LEFT, BOTTOM + 28), "sigma at each step", INK, "la")


def _place(across: float, up: float) -> Point:
    """Where a point lies in the picture; both are shares of the axes."""
    return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)


class Pen:
    """Draws on a white picture, in its pixels."""

    def __init__(self) -> None:
        size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
        self._picture = Image.new("RGB", size, "white")
        self._draw = ImageDraw.Draw(self._picture)
        self._font = ImageFont.load_default(FONT * OVERSAMPLING)

    def line(self, points: Sequence[Point], color: str) -> None:
        scaled = [_scaled(point) for point in points]
        self._draw.line(scaled, color, LINE * OVERSAMPLING, joint="curve")

    def dots(self, points: Sequence[Point], color: str) -> None:
        for point in points:
            self._draw.circle(_scaled(point), DOT * OVERSAMPLING / 2, color)

    def text(self, at: Point, text: str, color: str, anchor: str) -> None:
        """anchor: Pillow's two letters for the point of the text that stands at `at`."""
        self._draw.text(_scaled(at), text, color, self._font, anchor)

    def image(self) -> Tensor:
        """The picture as IMAGE: (1, HEIGHT, WIDTH, 3), float32 from 0 to 1."""
        reduced = self._picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(reduced, dtype=np.float32) / 255)[None]


def _scaled(point: Point) -> Point:
    return point[0] * OVERSAMPLING, point[1] * OVERSAMPLING
