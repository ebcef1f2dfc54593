"""Latents become rows of patches, and patches latents."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.lumina.model.patches import patchify, unpatchify


def test_patches_are_read_channel_by_channel():
    x = torch.arange(2 * 2 * 4).reshape(1, 2, 2, 4)
    assert patchify(x, 2)[0].tolist() == [
        [0, 1, 4, 5, 8, 9, 12, 13],
        [2, 3, 6, 7, 10, 11, 14, 15],
    ]


def test_patches_are_written_pixel_by_pixel():
    tokens = torch.arange(8).reshape(1, 1, 8)  # one 2 x 2 patch of two channels
    assert unpatchify(tokens, 1, 1, 2).tolist() == [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]]


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_unpatchify_undoes_patchify(batch, channels, height, width):
    x = torch.randn(batch, channels, height * 2, width * 2)
    tokens = patchify(x, 2).unflatten(-1, (channels, 4)).transpose(-1, -2).flatten(2)
    assert torch.equal(unpatchify(tokens, height, width, 2), x)


def test_odd_latent_is_refused():
    with pytest.raises(ValueError, match="5 x 4 cannot be cut into 2 x 2"):
        patchify(torch.zeros(1, 4, 5, 4), 2)
