"""The drawn scenes and their captions."""

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from lumina_next.demo.scenes import drawing
from lumina_next.tests.support.scenes import PAIR


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
