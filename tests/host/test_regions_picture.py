"""The picture of regions: colors and numbers where the prompts act, in the latent's shape."""

import pytest
import torch
from PIL import ImageColor
from torch.testing import assert_close

from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import empty
from lumina_next.tests.support.region_nodes import FIRST, HALVES, LEFT, SECOND, left_mask, regions
from lumina_next.tests.support.tiny import POSITIVE

NAME = "LuminaNextPlotRegions"


@pytest.fixture(autouse=True)
def nodes_are_there(host):
    return host


def drawn(prompt, height=16, width=12):
    from lumina_next.host.regions_picture import draw_regions

    return draw_regions(prompt, empty(height, width))


def color(index):
    from lumina_next.host.regions_picture import STRENGTH
    from lumina_next.host.sigmas_picture import COLORS

    rgb = torch.tensor(ImageColor.getrgb(COLORS[index])) / 255
    return 1 - STRENGTH * (1 - rgb)


def near(found, expected):
    assert_close(found, expected, rtol=0, atol=1 / 255)


def test_regions_are_colored_where_they_act():
    image = drawn(regions(*HALVES))
    assert image.shape == (1, 768, 576, 3) and image.dtype == torch.float32
    near(image[0, 5, 5], color(0))
    near(image[0, 5, 570], color(1))


def test_rest_is_white_and_an_overlap_mixed():
    image = drawn(regions((FIRST, LEFT), (SECOND, {"width": 0.25})))
    near(image[0, 5, 570], torch.ones(3))
    near(image[0, 5, 5], (color(0) + color(1)) / 2)


def test_each_region_has_its_number():
    one, two = drawn(regions((FIRST, LEFT))), drawn(regions((FIRST, LEFT), (SECOND, {"x": 0.5})))
    inside = one[0, 350:420, 100:190]
    assert ((inside - color(0)).abs().amax(-1) > 0.3).any()
    assert ((two[0, 350:420, 390:480] - color(1)).abs().amax(-1) > 0.3).any()


def test_mask_for_each_picture_makes_as_many():
    left = left_mask()
    image = drawn(regions((FIRST, {"mask": torch.cat([left, 1 - left])})))
    assert len(image) == 2
    near(image[1, 5, 5], torch.ones(3))
    near(image[1, 5, 570], color(0))


def test_prompt_without_regions_says_where_they_come_from():
    with pytest.raises(ValueError, match="no regions.*Lumina-Next Grid"):
        drawn(POSITIVE)


@pytest.mark.parametrize("size", [(128, 2), (1, 1)])
def test_frames_of_any_shape_are_drawn(size):
    assert drawn(regions(*HALVES), *size).isfinite().all()


def test_node_gives_the_picture_out_and_shows_it():
    image = node(NAME, prompt=regions(*HALVES), latent=empty())
    near(image, drawn(regions(*HALVES)))
