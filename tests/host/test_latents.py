"""Lumina-Next Size: its latent is that of "Empty Latent Image", and it says what it makes."""

import pytest
import torch

from lumina_next.lumina.picture_sizes import SIZES
from lumina_next.tests.support.host_nodes import node

CUSTOM = {"size": "Custom", "width": 256, "height": 128}


@pytest.fixture
def shown(host, monkeypatch):
    """What the node shows, in order."""
    from lumina_next.host import latents

    texts = []
    monkeypatch.setattr(latents, "say", texts.append)
    return texts


def sized(size, batch_size=1):
    size = size if isinstance(size, dict) else {"size": size}
    return node("LuminaNextSize", size=size, batch_size=batch_size)


@pytest.mark.parametrize("name", SIZES)
def test_latent_is_that_of_the_native_node(shown, name):
    latent, width, height = sized(name, 2)
    assert f"{width} x {height}" == name
    expected = node("EmptyLatentImage", width=width, height=height, batch_size=2)
    assert latent.keys() == expected.keys()
    assert torch.equal(latent["samples"], expected["samples"])
    assert latent["downscale_ratio_spacial"] == expected["downscale_ratio_spacial"]


def test_custom_size(shown):
    latent, width, height = sized(CUSTOM)
    assert (width, height) == (256, 128) and latent["samples"].shape == (1, 4, 16, 32)


def test_larger_size_is_told_from_a_trained_one(shown):
    sized("1024 x 1024")
    sized("2048 x 1024")
    assert shown == [
        "1024 x 1024: square, 1.0 megapixels.",
        "2048 x 1024: panorama, 2.1 megapixels, 2 x trained. "
        'Put "Lumina-Next Resolution" behind the model.',
    ]


def test_custom_side_that_is_no_multiple_of_16_is_refused(shown):
    with pytest.raises(ValueError, match="width 1000 is not a multiple of 16 px"):
        sized({**CUSTOM, "width": 1000})


def test_size_that_does_not_exist_is_refused_with_those_that_do(shown):
    with pytest.raises(ValueError, match='"size" is missing .* 1024 x 1024, .*Custom'):
        node("LuminaNextSize", size=None, batch_size=1)
