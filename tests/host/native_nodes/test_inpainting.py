"""Inpainting by ComfyUI's own nodes with this MODEL."""

import torch

from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import advanced, differs, sample
from lumina_next.tests.support.tiny import assert_same_picture


def picture(height=16, width=12):
    samples = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(5))
    return {"samples": samples / tiny.SDXL_SCALE}


def test_unmasked_latent_is_kept(model):
    mask = torch.zeros(1, 128, 96)
    mask[:, :, 48:] = 1
    latent = node("SetLatentNoiseMask", samples=picture(), mask=mask)
    out, before = sample(model, latent=latent), picture()["samples"]
    assert_same_picture(out[..., :6], before[..., :6])
    assert differs(out[..., 6:], before[..., 6:])


def test_differential_diffusion_starts_where_the_mask_says(model):
    model = node("DifferentialDiffusion", model=model, strength=1.0)
    latent = node("SetLatentNoiseMask", samples=picture(), mask=torch.full((1, 128, 96), 0.5))
    # Steps at 1, 2/3, 1/3: a mask of a half lets the picture change from the third on.
    late = advanced(model, 2, 4, picture(), noise=True, leftover=False)["samples"]
    assert_same_picture(sample(model, latent=latent, steps=4), late)
    assert differs(late, sample(model, latent=picture(), steps=4))


def test_denoise_below_1_begins_with_the_picture(model):
    found = sample(model, latent=picture(), denoise=0.5, steps=2)
    expected = advanced(model, 2, 4, picture(), noise=True, leftover=False)["samples"]
    assert_same_picture(found, expected)
