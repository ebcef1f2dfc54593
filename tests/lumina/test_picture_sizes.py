"""Sizes of pictures: trained ones are the released code's, others are compared with them."""

import pytest

from lumina_next.lumina.picture_sizes import BEYOND, DEMO, SIDE, SIZES, TRAINED, PictureSize


def released_crop_sizes(tokens):
    """(width, height) in tokens that the released training crops its pictures to."""
    sizes, width, height = set(), tokens, 1
    while width:
        if max(width, height) <= 4 * min(width, height):
            sizes.add((width, height))
        if width * (height + 1) <= tokens:
            height += 1
        else:
            width -= 1
    return sizes


def test_there_are_as_many_crop_sizes_as_in_the_released_training():
    assert len(released_crop_sizes(64 * 64)) == 193


@pytest.mark.parametrize("size", TRAINED.values(), ids=str)
def test_trained_size_is_one_of_the_released_training(size):
    assert (size.width // 16, size.height // 16) in released_crop_sizes(64 * 64)
    assert size.times_trained <= 1


def test_every_shape_has_a_trained_size():
    shapes = {size.shape for size in TRAINED.values()}
    assert shapes == {"square", "landscape", "portrait", "panorama", "tall"}


def test_larger_sizes_say_how_far_beyond_they_are():
    assert BEYOND["2048 x 1024"].summary == "panorama, 2.1 megapixels, 2 x trained"
    assert all("x trained" in size.summary for size in BEYOND.values())
    assert not any("x trained" in size.summary for size in (TRAINED | DEMO).values())


def test_names_are_sizes():
    assert all(name == f"{size.width} x {size.height}" for name, size in SIZES.items())
    assert len(SIZES) == len(TRAINED) + len(BEYOND) + len(DEMO)


def test_demo_model_is_compared_with_its_own_training():
    assert PictureSize(256, 128, trained_size=128).times_trained == 2


@pytest.mark.parametrize("side", SIDE)
def test_side_that_is_no_multiple_of_16_is_refused_with_the_nearest(side):
    with pytest.raises(ValueError, match=f"{side} 1000 .* 16 px. Nearest: 992 or 1008"):
        PictureSize(**{"width": 1024, "height": 1024, side: 1000})


def test_side_out_of_range_is_refused():
    with pytest.raises(ValueError, match="width must be a whole number from 16 to 16384, got 0"):
        PictureSize(0, 1024)
