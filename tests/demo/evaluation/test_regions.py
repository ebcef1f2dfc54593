"""The evaluation of regions: its layouts, its scenes and what it counts, without ComfyUI."""

import importlib
import random

import numpy as np
import pytest
import torch


@pytest.fixture
def regions():
    return importlib.import_module("demo.evaluation.regions")


@pytest.fixture
def drawing():
    return importlib.import_module("demo.scenes.drawing")


def masks(regions, layout):
    side = regions.TRAINED_PX
    return [
        area if isinstance(area, torch.Tensor) else area.mask(side, side) for area in layout.areas
    ]


def test_every_layout_fills_the_picture_once(regions):
    for layout in regions.LAYOUTS.values():
        total = sum(masks(regions, layout))
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


def test_places_lie_in_their_regions(regions, drawing):
    for layout in regions.LAYOUTS.values():
        shown = masks(regions, layout)
        for mask, places in zip(shown, layout.places, strict=True):
            for place in places:
                x, y = (round(part * regions.TRAINED_PX) for part in drawing.PLACES[place])
                near = mask[0, y - 2 : y + 2, x - 2 : x + 2]
                assert near.max() == 1, place


def test_scenes_have_a_thing_for_each_region_and_no_color_twice(regions):
    rng = random.Random(0)
    for name, count in (("1 x 2", 2), ("2 x 2", 4), ("2 x 3", 5), ("free masks", 3)):
        scene, things = regions.LAYOUTS[name].scene(rng)
        assert len(scene.things) == len({thing.color for thing in scene.things}) == count
        assert set(things) == set(scene.things)


def test_middle_cells_of_six_show_the_same_thing(regions):
    _, things = regions.LAYOUTS["2 x 3"].scene(random.Random(1))
    assert things[1] is things[4] and things[1].place == "center"


def test_objects_are_counted_by_color_and_place(regions, drawing):
    scene, _ = regions.LAYOUTS["2 x 2"].scene(random.Random(2))
    right = drawing.draw(scene)
    first, *rest = scene.things
    moved = drawing.Scene(scene.background, (*rest,))
    share = regions.objects_in_place([scene, scene], np.stack([right, drawing.draw(moved)]))
    assert share == 7 / 8
