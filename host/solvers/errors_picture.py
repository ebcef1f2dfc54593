"""Errors of solvers against their model calls, as a picture."""

import math
from collections.abc import Mapping
from itertools import cycle

from torch import Tensor

from ..sigmas_picture import BOTTOM, COLORS, INK, LEFT, LEGEND_ROW, PALE, RIGHT, TOP, Pen

Lines = Mapping[str, Mapping[int, float]]  # of each solver the mean error at numbers of calls
SMALLEST = 1e-6  # errors below it are drawn there


def draw_errors(lines: Lines) -> Tensor:
    """IMAGE (1, 512, 768, 3): calls across, the mean error up, a decade as high as any other."""
    calls = sorted({number for line in lines.values() for number in line})
    errors = [max(error, SMALLEST) for line in lines.values() for error in line.values()]
    low, high = math.floor(math.log10(min(errors))), math.ceil(math.log10(max(errors)))
    high = max(high, low + 1)
    pen = Pen()

    def place(number: int, error: float) -> tuple[float, float]:
        across = (number - calls[0]) / max(calls[-1] - calls[0], 1)
        up = (math.log10(max(error, SMALLEST)) - low) / (high - low)
        return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)

    for decade in range(low, high + 1):
        pen.line([place(calls[0], 10.0**decade), place(calls[-1], 10.0**decade)], PALE)
        pen.text((LEFT - 10, place(calls[0], 10.0**decade)[1]), f"{10.0**decade:g}", INK, "rm")
    for number in calls:
        pen.text((place(number, 1)[0], BOTTOM + 8), str(number), INK, "ma")
    pen.text((LEFT, BOTTOM + 28), "mean distance from the exact latents, by model calls", INK, "la")
    for row, ((name, line), color) in enumerate(zip(lines.items(), cycle(COLORS), strict=False)):
        points = [place(number, error) for number, error in sorted(line.items())]
        if len(points) > 1:
            pen.line(points, color)
        pen.dots(points, color)
        pen.text((RIGHT, TOP + row * LEGEND_ROW), name, color, "ra")
    return pen.image()
