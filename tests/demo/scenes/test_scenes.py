"""The drawn scenes, their captions, and the reading that judges generated pictures.

The reading is only worth something if it is right on pictures whose content is known, so it is held
against drawn ones, clean and degraded, and against pictures that must fail.
"""

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from lumina_next.demo.scenes import drawing, reading

RED_CIRCLE = drawing.Thing("circle", "red", "top left")
BLUE_SQUARE = drawing.Thing("square", "blue", "bottom right")
PAIR = drawing.Scene("white", (RED_CIRCLE, BLUE_SQUARE))


def degraded(picture: np.ndarray, blur_px: float, noise: float, seed: int) -> np.ndarray:
    """The picture blurred, then with Gaussian noise of `noise` steps out of 255."""
    blurred = ndimage.gaussian_filter(picture.astype(np.float64), (blur_px, blur_px, 0))
    noisy = blurred + np.random.default_rng(seed).normal(0, noise, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def test_main_caption_reads_as_documented() -> None:
    assert drawing.main_caption(PAIR) == (
        "a red circle at the top left and a blue square at the bottom right on a white background"
    )
    orange_star = drawing.Thing("star", "orange", "center")
    alone = drawing.Scene("gray", (orange_star,))
    assert drawing.main_caption(alone) == "an orange star in the center on a gray background"


def test_every_phrasing_names_everything_in_the_scene() -> None:
    rng = random.Random(0)
    for _ in range(300):
        scene = drawing.sample_scene(rng)
        words = drawing.caption(scene, rng)
        assert f"{scene.background} background" in words
        for thing in scene.things:
            assert f"{thing.color} {thing.shape}" in words
            assert thing.place in words


def test_most_captions_are_the_main_phrasing_and_the_order_varies() -> None:
    rng = random.Random(0)
    said = [drawing.caption(PAIR, rng) for _ in range(500)]
    swapped = replace(PAIR, things=PAIR.things[::-1])
    orders = [said.count(drawing.main_caption(scene)) for scene in (PAIR, swapped)]
    assert min(orders) > 100
    assert 250 < sum(orders) < 350
    assert len(set(said)) > 10


def test_things_share_neither_place_nor_kind() -> None:
    rng = random.Random(0)
    for _ in range(500):
        one, other = drawing.sample_scene(rng, things=2).things
        assert one.place != other.place
        assert (one.shape, one.color) != (other.shape, other.color)


@pytest.mark.parametrize("things", [1, 2])
def test_one_scene_in_ten_is_held_out(things: int) -> None:
    rng = random.Random(0)
    held_out = [drawing.is_held_out(drawing.sample_scene(rng, things)) for _ in range(3000)]
    assert 0.07 < np.mean(held_out) < 0.13


def test_held_out_ignores_the_order_of_things() -> None:
    rng = random.Random(0)
    for _ in range(300):
        scene = drawing.sample_scene(rng, things=2)
        swapped = replace(scene, things=scene.things[::-1])
        assert drawing.is_held_out(scene) == drawing.is_held_out(swapped)


def test_training_never_sees_a_held_out_scene() -> None:
    rng = random.Random(0)
    assert not any(drawing.is_held_out(drawing.sample_training_scene(rng)) for _ in range(300))
    assert all(drawing.is_held_out(drawing.sample_held_out_scene(rng)) for _ in range(50))


def test_drawing_is_repeatable_and_jitters_with_its_rng() -> None:
    still, again = drawing.draw(PAIR, 64), drawing.draw(PAIR, 64)
    one, other = (drawing.draw(PAIR, 64, random.Random(seed)) for seed in (1, 2))
    assert still.shape == (64, 64, 3)
    assert still.dtype == np.uint8
    assert np.array_equal(still, again)
    assert not np.array_equal(one, other)
    assert np.array_equal(one, drawing.draw(PAIR, 64, random.Random(1)))


class Scripted(random.Random):
    """Hands out the given numbers, so that a drawing's jitter and sizes are known."""

    def __new__(cls, values: list[float]) -> "Scripted":
        return super().__new__(cls)  # Python 3.10 would hash the list

    def __init__(self, values: list[float]) -> None:
        super().__init__(0)
        self.values = iter(values)

    def uniform(self, a: float, b: float) -> float:
        value = next(self.values)
        assert a <= value <= b
        return value


@pytest.mark.parametrize("shapes", [("square", "square"), ("star", "square"), ("circle", "cross")])
def test_the_largest_things_at_their_nearest_never_touch(shapes: tuple[str, str]) -> None:
    inward, largest = drawing.JITTER, drawing.RADIUS[1]
    pair = tuple(
        drawing.Thing(shape, color, place)
        for shape, color, place in zip(shapes, ("red", "blue"), ("top left", "center"), strict=True)
    )
    rng = Scripted([inward, inward, largest, -inward, -inward, largest])
    picture = drawing.draw(drawing.Scene("black", pair), 512, rng)
    assert ndimage.label(picture.any(-1), np.ones((3, 3)))[1] == 2


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
