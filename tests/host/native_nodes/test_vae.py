"""ComfyUI's own VAE nodes with the demo model's."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.demo.training import autoencoder
from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import DEMO_VAE
from lumina_next.tests.support.tiny import assert_same_picture


@pytest.fixture(scope="module")
def plain_vae():
    """The demo's autoencoder on torch's own layers."""
    return autoencoder.load(DEMO_VAE)


@pytest.fixture
def vae(host):
    return node("VAELoader", vae_name=DEMO_VAE.name)


def image(height=64, width=96):
    """A smooth IMAGE: a few random colors, enlarged."""
    colors = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(6))
    large = torch.nn.functional.interpolate(colors, (height, width), mode="bilinear")
    return large.movedim(1, -1)


def test_vae_encodes_and_decodes_as_plain_torch(vae, plain_vae):
    latent = node("VAEEncode", pixels=image(), vae=vae)
    expected = plain_vae.encode(image().movedim(-1, 1)) / tiny.SDXL_SCALE
    assert_same_picture(latent["samples"], expected)

    decoded = node("VAEDecode", samples=latent, vae=vae)
    expected = plain_vae.decode(latent["samples"] * tiny.SDXL_SCALE).movedim(1, -1)
    assert_close(decoded, expected, rtol=0, atol=1e-4)


def test_tiled_decoding_is_decoding_without_seams(vae):
    latent = node("VAEEncode", pixels=image(128, 192), vae=vae)
    whole = node("VAEDecode", samples=latent, vae=vae)
    tiled = node(
        "VAEDecodeTiled", samples=latent, vae=vae, tile_size=128, overlap=64, temporal_size=64,
        temporal_overlap=8,
    )  # fmt: skip
    assert tiled.shape == whole.shape == (1, 128, 192, 3)
    assert (tiled - whole).abs().mean() < 0.02
