"""Reads a picture of a scene back into words, and counts how much of the request it shows.

Plain image analysis, no learned part: the border gives the background, connected regions that
differ from it are the things, and each takes the nearest color, place and shape of `scenes`.
Pictures are uint8 RGB arrays (H, W, 3) of any size; places and areas are fractions of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from .drawing import BACKGROUNDS, COLORS, PLACES, SHAPES, Scene, Thing, draw

UNCLEAR = "unclear"

# Distance in RGB from the background. The nearest color and background, purple on gray, are 101
# apart; a higher bar than this would lose it, a lower one joins things that nearly touch.
_DIFFERS = 55.0
# A fraction of the picture; the smallest thing `draw` makes covers 2.5 percent of it.
_SMALLEST_AREA = 0.005
# Overlap (intersection over union) below which a region is none of the shapes. A circle and a
# square of one area overlap by 0.83, any other two of the shapes by 0.69 at most.
_SHAPE_FITS = 0.7
# A thing's faint edge is below the bar that finds it.
_EDGE_PX = 2
_MARGIN_PX = _EDGE_PX + 1
_GRID = 40
_REACH = 2.0


@dataclass(frozen=True)
class Reading:
    """What a picture shows. A thing's shape is UNCLEAR when it resembles none of them."""

    background: str
    things: tuple[Thing, ...]


def read(picture: np.ndarray) -> Reading:
    """The background and the things of a picture (H, W, 3) uint8, the largest thing first."""
    pixels = picture.astype(np.float32)
    ground = _border_color(pixels)
    differing = np.linalg.norm(pixels - ground, axis=-1) > _DIFFERS
    regions, count = ndimage.label(differing)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    windows = ndimage.find_objects(regions)
    kept = [n for n in np.argsort(-sizes) if sizes[n] >= _SMALLEST_AREA * differing.size]
    things = tuple(_read_thing(pixels, ground, regions == n + 1, windows[n]) for n in kept)
    return Reading(_nearest(ground, BACKGROUNDS), things)


def _border_color(pixels: np.ndarray) -> np.ndarray:
    """The middle color of the picture's outermost twentieth: things stay clear of most of it."""
    height, width = pixels.shape[:2]
    rows, columns = max(1, height // 20), max(1, width // 20)
    border = np.ones((height, width), bool)
    border[rows:-rows, columns:-columns] = False
    return np.median(pixels[border], axis=0)


def _nearest(point: np.ndarray, named: dict[str, tuple]) -> str:
    return min(named, key=lambda name: float(np.sum((np.asarray(named[name]) - point) ** 2)))


def _read_thing(
    pixels: np.ndarray, ground: np.ndarray, region: np.ndarray, window: tuple[slice, slice]
) -> Thing:
    """`window` is the region's bounding box; only it and a margin are looked at."""
    top, left = (max(0, side.start - _MARGIN_PX) for side in window)
    box = np.s_[top : window[0].stop + _MARGIN_PX, left : window[1].stop + _MARGIN_PX]
    color = _core_color(pixels[box], region[box])
    coverage = _coverage(pixels[box], ground, color, region[box])
    row, column = ndimage.center_of_mass(coverage)
    height, width = region.shape
    place = np.array([(left + column + 0.5) / width, (top + row + 0.5) / height])
    return Thing(_shape(coverage), _nearest(color, COLORS), _nearest(place, PLACES))


def _core_color(pixels: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The region's middle color well inside its edge, where no background is mixed in."""
    depth = ndimage.distance_transform_edt(region)
    return np.median(pixels[depth >= 0.6 * depth.max()], axis=0)


def _coverage(
    pixels: np.ndarray, ground: np.ndarray, color: np.ndarray, region: np.ndarray
) -> np.ndarray:
    """How much of each pixel the thing covers, 0 to 1: its share in the mix with the background."""
    contrast = color - ground
    share = (pixels - ground) @ contrast / max(float(contrast @ contrast), 1.0)
    near = ndimage.binary_dilation(region, iterations=_EDGE_PX)
    return np.where(near, share.clip(0, 1), 0)


def _shape(coverage: np.ndarray) -> str:
    seen = _normalized(coverage)
    fits = {shape: _overlap(seen, model) for shape, model in _models().items()}
    best = max(fits, key=fits.__getitem__)
    return best if fits[best] >= _SHAPE_FITS else UNCLEAR


@cache
def _models() -> dict[str, np.ndarray]:
    """Each shape as `draw` makes it, moved and scaled as `_normalized` does."""
    drawn = {shape: Scene("black", (Thing(shape, "red", "center"),)) for shape in SHAPES}
    full = COLORS["red"][0]
    return {shape: _normalized(draw(scene, 256)[..., 0] / full) for shape, scene in drawn.items()}


def _normalized(coverage: np.ndarray) -> np.ndarray:
    """A (grid, grid) view of a thing with its centroid in the middle and its area one unit."""
    rows, columns = ndimage.center_of_mass(coverage)
    unit = np.sqrt(coverage.sum())
    steps = np.linspace(-_REACH / 2, _REACH / 2, _GRID) * unit
    grid = np.meshgrid(rows + steps, columns + steps, indexing="ij")
    return ndimage.map_coordinates(coverage, grid, order=1)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two soft masks."""
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


def score(scene: Scene, reading: Reading) -> tuple[int, int]:
    """(right, total) attributes: the background, and each thing's shape, color and place.

    The things read are matched to those asked for in the way that makes most attributes right; a
    thing that is not there has none right, and things nobody asked for are not counted.
    """
    right = int(reading.background == scene.background)
    if scene.things and reading.things:
        alike = np.array([[_alike(a, b) for b in reading.things] for a in scene.things])
        right += int(alike[linear_sum_assignment(alike, maximize=True)].sum())
    return right, 1 + 3 * len(scene.things)


def _alike(one: Thing, other: Thing) -> int:
    return (one.shape == other.shape) + (one.color == other.color) + (one.place == other.place)


def exact(scene: Scene, reading: Reading) -> bool:
    """Whether the picture shows the scene: its background, its things once each, nothing else."""
    same_things = sorted(map(repr, scene.things)) == sorted(map(repr, reading.things))
    return scene.background == reading.background and same_things


def in_place(scene: Scene, reading: Reading) -> bool:
    """Whether each thing's color is there once, at its place, and nothing else; of any shape.

    What is left to judge pictures by that are too blurred to tell a star from a circle.
    """
    wanted, found = (
        sorted((thing.color, thing.place) for thing in of.things) for of in (scene, reading)
    )
    return wanted == found


def sharpness(picture: np.ndarray) -> float:
    """How steep the edges of a picture (H, W, 3) uint8 are, in full brightness ranges per pixel.

    The mean of the gradient's size g, each pixel weighted by g itself, sum(g^2) / sum(g): flat
    parts have no say, and an edge of height h spread over w pixels gives h / w. Compare
    only pictures of one size and of the same scenes. A picture without edges gives 0.
    """
    pixels = picture.astype(np.float32) / 255
    down, across = np.gradient(pixels, axis=(0, 1))
    steepness = np.sqrt(np.square(down) + np.square(across)).mean(-1)
    # Steps of under 2 percent are noise or gradual shading, and there are very many of them.
    steepness[steepness < 0.02] = 0
    total = float(steepness.sum())
    return float(np.square(steepness).sum()) / total if total else 0.0
