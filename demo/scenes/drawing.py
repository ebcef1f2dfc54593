"""Scenes a script can draw, and the sentences that describe them.

A scene is a plain background with one or two colored shapes, each at one of five places. Positions
and sizes are fractions of the picture's side, x to the right and y down; `rng` is `random.Random`.
Everything the demo model learns, and everything it is judged on, comes from this file.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
}
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 25, 30),
    "green": (30, 150, 50),
    "blue": (30, 60, 225),
    "yellow": (250, 220, 30),
    "purple": (120, 35, 165),
    "orange": (250, 130, 10),
    "cyan": (20, 205, 225),
    "pink": (255, 125, 195),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
PLACES: dict[str, tuple[float, float]] = {
    "top left": (0.22, 0.22),
    "top right": (0.78, 0.22),
    "bottom left": (0.22, 0.78),
    "bottom right": (0.78, 0.78),
    "center": (0.5, 0.5),
}

# No shape reaches further than 1.1 radii from its middle, so even at the largest size and jitter a
# shape at the center and one in a corner stay apart: (0.28 - 2 * 0.02) * sqrt 2 > 2 * 1.1 * 0.15.
RADIUS = (0.13, 0.15)
JITTER = 0.02
_OVERSAMPLING = 4
_HELD_OUT_PERCENT = 10
_MAIN_PHRASING = 0.6


@dataclass(frozen=True)
class Thing:
    """One object: keys of SHAPES, COLORS and PLACES."""

    shape: str
    color: str
    place: str


@dataclass(frozen=True)
class Scene:
    """A background (key of BACKGROUNDS) and the things on it, which never share a place."""

    background: str
    things: tuple[Thing, ...]


def sample_scene(rng: random.Random, things: int | None = None) -> Scene:
    """A random scene with `things` objects; 1 or 2 by chance when that is None."""
    if things is None:
        things = rng.choice((1, 2, 2))
    kinds = [(shape, color) for shape in SHAPES for color in COLORS]
    chosen = zip(rng.sample(kinds, things), rng.sample(list(PLACES), things), strict=True)
    return Scene(
        rng.choice(list(BACKGROUNDS)),
        tuple(Thing(shape, color, place) for (shape, color), place in chosen),
    )


def sample_training_scene(rng: random.Random, things: int | None = None) -> Scene:
    """A random scene that a model may be trained on."""
    while is_held_out(scene := sample_scene(rng, things)):
        pass
    return scene


def sample_held_out_scene(rng: random.Random, things: int | None = None) -> Scene:
    """A random scene that no training has drawn."""
    while not is_held_out(scene := sample_scene(rng, things)):
        pass
    return scene


def is_held_out(scene: Scene) -> bool:
    """Whether this scene is kept for evaluation: one in ten, whatever the order of its things."""
    things = sorted(f"{thing.color} {thing.shape} {thing.place}" for thing in scene.things)
    digest = hashlib.sha256("; ".join([scene.background, *things]).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < _HELD_OUT_PERCENT


def main_caption(scene: Scene) -> str:
    """The main phrasing, things in the scene's own order.

    Such as "a red circle at the top left and a blue square in the center on a white background".
    """
    return f"{_listed(scene.things, _plain_place)} on a {scene.background} background"


def caption(scene: Scene, rng: random.Random) -> str:
    """One of a handful of phrasings, the main one most often, the things in either order."""
    things = rng.sample(scene.things, len(scene.things))
    if rng.random() < _MAIN_PHRASING:
        return main_caption(Scene(scene.background, tuple(things)))
    place = rng.choice((_plain_place, _corner_place))
    listed = _listed(things, place)
    phrasings = (
        f"a {scene.background} background with {listed}",
        f"{listed}, {scene.background} background",
        f"on a {scene.background} background, {listed}",
        f"a picture of {listed} on a {scene.background} background",
    )
    return rng.choice(phrasings)


def _listed(things: Sequence[Thing], place: Callable[[str], str]) -> str:
    return " and ".join(f"{_article(t.color)} {t.color} {t.shape} {place(t.place)}" for t in things)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _plain_place(place: str) -> str:
    return "in the center" if place == "center" else f"at the {place}"


def _corner_place(place: str) -> str:
    return "at the center" if place == "center" else f"in the {place} corner"


def draw(scene: Scene, size_px: int = 128, rng: random.Random | None = None) -> np.ndarray:
    """The scene as an antialiased picture, uint8 RGB of shape (size_px, size_px, 3).

    With `rng` every thing moves by up to JITTER and takes a size within RADIUS; without it they
    stand exactly at their places in the middle size.
    """
    side = size_px * _OVERSAMPLING
    picture = Image.new("RGB", (side, side), BACKGROUNDS[scene.background])
    for thing in scene.things:
        _draw_thing(ImageDraw.Draw(picture), thing, side, rng)
    return np.asarray(picture.resize((size_px, size_px), Image.Resampling.BOX))


def _draw_thing(
    canvas: ImageDraw.ImageDraw, thing: Thing, side: int, rng: random.Random | None
) -> None:
    x, y = PLACES[thing.place]
    radius = sum(RADIUS) / 2
    if rng is not None:
        x, y = x + rng.uniform(-JITTER, JITTER), y + rng.uniform(-JITTER, JITTER)
        radius = rng.uniform(*RADIUS)
    x, y, radius = x * side, y * side, radius * side
    color = COLORS[thing.color]
    if thing.shape == "circle":
        canvas.circle((x, y), radius, fill=color)
    elif thing.shape == "ring":
        canvas.circle((x, y), radius, outline=color, width=round(0.42 * radius))
    else:
        outline = OUTLINES[thing.shape]
        canvas.polygon([(x + radius * u, y + radius * v) for u, v in outline], fill=color)


def _regular(points: int, radii: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """Corners evenly around the middle, the first straight up, their distances `radii` in turn."""
    angles = (2 * math.pi * k / points - math.pi / 2 for k in range(points))
    return tuple(
        (radii[k % len(radii)] * math.cos(a), radii[k % len(radii)] * math.sin(a))
        for k, a in enumerate(angles)
    )


def _cross(arm: float, half_width: float) -> tuple[tuple[float, float], ...]:
    """An upright plus sign, `arm` from the middle to each end."""
    quarter = ((half_width, -arm), (half_width, -half_width), (arm, -half_width))
    corners = list(quarter)
    for _ in range(3):
        quarter = tuple((-v, u) for u, v in quarter)
        corners.extend(quarter)
    return tuple(corners)


OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)),
    "triangle": _regular(3, (1.1,)),
    "star": _regular(10, (1.1, 0.46)),
    "cross": _cross(0.98, 0.3),
}
