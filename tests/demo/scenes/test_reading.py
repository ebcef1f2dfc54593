"""The reading that judges generated pictures.

It is only worth something if it is right on pictures whose content is known, so it is held against
drawn ones, clean and degraded, and against pictures that must fail.
"""

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from lumina_next.demo.scenes import drawing, reading
from lumina_next.tests.support.scenes import BLUE_SQUARE, PAIR, RED_CIRCLE


def degraded(picture: np.ndarray, blur_px: float, noise: float, seed: int) -> np.ndarray:
    """The picture blurred, then with Gaussian noise of `noise` steps out of 255."""
    blurred = ndimage.gaussian_filter(picture.astype(np.float64), (blur_px, blur_px, 0))
    noisy = blurred + np.random.default_rng(seed).normal(0, noise, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("size_px", "blur_px", "noise"),
    [(128, 0.0, 0.0), (128, 0.8, 6.0), (96, 1.0, 10.0), (200, 0, 3)],
)
def test_reading_is_right_on_drawn_scenes(size_px: int, blur_px: float, noise: float) -> None:
    rng = random.Random(size_px + int(noise))
    right = total = 0
    for seed in range(45):
        scene = drawing.sample_scene(rng)
        picture = degraded(drawing.draw(scene, size_px, rng), blur_px, noise, seed)
        counted = reading.score(scene, reading.read(picture))
        right, total = right + counted[0], total + counted[1]
    assert right >= 0.99 * total


@pytest.mark.parametrize("shape", drawing.SHAPES)
def test_every_shape_is_read_in_every_color_and_on_every_background(shape: str) -> None:
    for background in drawing.BACKGROUNDS:
        for color in drawing.COLORS:
            scene = drawing.Scene(background, (drawing.Thing(shape, color, "bottom left"),))
            assert reading.exact(scene, reading.read(drawing.draw(scene, 64)))


def test_a_picture_of_nothing_has_no_things() -> None:
    empty = drawing.draw(drawing.Scene("gray", ()), 64)
    assert reading.read(empty) == reading.Reading("gray", ())
    assert reading.score(PAIR, reading.read(empty)) == (0, 7)


def test_pure_noise_is_never_the_scene_asked_for() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert not reading.exact(PAIR, reading.read(noise))


def test_a_blob_is_read_as_unclear() -> None:
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[60:68, 20:108] = drawing.COLORS["red"]
    (bar,) = reading.read(picture).things
    assert bar == drawing.Thing(reading.UNCLEAR, "red", "center")


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"shape": "star"}, 1),
        ({"color": "pink"}, 1),
        ({"place": "center"}, 1),
        ({"shape": "ring", "color": "cyan", "place": "top right"}, 3),
    ],
)
def test_score_loses_one_for_each_wrong_attribute(change: dict[str, str], lost: int) -> None:
    shown = replace(PAIR, things=(replace(RED_CIRCLE, **change), BLUE_SQUARE))
    read = reading.read(drawing.draw(shown, 128))
    assert reading.score(PAIR, read) == (7 - lost, 7)
    assert not reading.exact(PAIR, read)


def test_score_matches_things_in_the_best_way_and_not_twice() -> None:
    swapped = reading.Reading("white", PAIR.things[::-1])
    assert reading.score(PAIR, swapped) == (7, 7)
    only_one = reading.Reading("black", (RED_CIRCLE,))
    assert reading.score(PAIR, only_one) == (3, 7)
    crossed = (replace(RED_CIRCLE, color="blue"), replace(BLUE_SQUARE, color="red"))
    assert reading.score(PAIR, reading.Reading("white", crossed)) == (5, 7)


def test_a_repeated_thing_is_not_exact() -> None:
    alone = drawing.Scene("white", (RED_CIRCLE,))
    assert reading.exact(alone, reading.Reading("white", (RED_CIRCLE,)))
    assert not reading.exact(alone, reading.Reading("white", (RED_CIRCLE, RED_CIRCLE)))
    assert not reading.exact(alone, reading.Reading("black", (RED_CIRCLE,)))
    tiled = np.tile(drawing.draw(alone, 64), (2, 2, 1))
    assert len(reading.read(tiled).things) == 4
    assert not reading.exact(alone, reading.read(tiled))


def test_a_thing_of_another_shape_is_in_place_and_one_elsewhere_is_not() -> None:
    alone = drawing.Scene("white", (RED_CIRCLE,))
    for thing, expected in [
        (replace(RED_CIRCLE, shape=reading.UNCLEAR), True),
        (replace(RED_CIRCLE, place="center"), False),
        (replace(RED_CIRCLE, color="blue"), False),
    ]:
        assert reading.in_place(alone, reading.Reading("white", (thing,))) is expected
    assert not reading.in_place(alone, reading.Reading("white", (RED_CIRCLE, RED_CIRCLE)))


def test_sharpness_falls_with_every_blur() -> None:
    picture = drawing.draw(PAIR, 128)
    measured = [reading.sharpness(degraded(picture, blur, 0, 0)) for blur in (0, 0.5, 1, 2, 4)]
    assert measured == sorted(measured, reverse=True)
    assert measured[0] > 2 * measured[3]


def test_sharpness_is_edge_height_per_pixel() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, 16:] = 255
    # Central differences spread a hard step over two pixels.
    assert reading.sharpness(picture) == pytest.approx(0.5, rel=1e-6)
    assert reading.sharpness(np.zeros_like(picture)) == 0
