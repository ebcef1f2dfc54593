"""NaN and infinity stop a run with a sentence, whatever they come from and whoever samples."""

import copy

import pytest
import torch
from safetensors.torch import save_file

from lumina_next.tests.support.native_graphs import empty, load, sample
from lumina_next.tests.support.tiny import POSITIVE

NAN, INFINITY = float("nan"), float("inf")


def by_our_sampler(model, **inputs):
    from lumina_next.tests.support.host_nodes import node

    inputs = {"positive": POSITIVE, "negative": POSITIVE, "latent": empty(), **inputs}
    return node(
        "LuminaNextSampler", model=model, seed=1, preset={"preset": "Fast"}, cfg=4.0, denoise=1.0,
        positive=inputs["positive"], negative=inputs["negative"], latent_image=inputs["latent"],
    )  # fmt: skip


@pytest.fixture(params=[sample, by_our_sampler], ids=["KSampler", "Lumina-Next Sampler"])
def draw(request):
    return request.param


@pytest.fixture
def model(folder):
    return load()


@pytest.mark.parametrize("number", [NAN, INFINITY])
def test_damaged_weight_is_named(folder, weights, draw, number):
    key = "layers.1.attention.wq.weight"
    damaged = weights[key].clone()
    damaged[0, 0] = number
    save_file(weights | {key: damaged}, folder / "damaged.safetensors")
    with pytest.raises(ValueError, match=rf'not finite.*weight "{key}": its file is damaged'):
        draw(load("damaged.safetensors"))


@pytest.mark.parametrize("number", [NAN, -INFINITY])
def test_damaged_latent_is_named_before_the_run(model, draw, number):
    latent = empty()
    latent["samples"][0, 0, 0, 0] = number
    with pytest.raises(ValueError, match="The LATENT holds numbers that are not finite.*fp32-vae"):
        draw(model, latent=latent)


def test_damaged_prompt_is_named_before_the_run(model, draw):
    positive = copy.deepcopy(POSITIVE)
    positive[0][0][0, 0, 0] = NAN
    with pytest.raises(ValueError, match="The CONDITIONING holds numbers that are not finite"):
        draw(model, positive=positive)


def test_numbers_that_arise_on_the_way_say_what_to_change(model, draw):
    model = model.clone()

    def burn(arguments):
        burnt = arguments["denoised"].clone()
        burnt[-1, 0] = INFINITY
        return burnt

    model.set_model_sampler_post_cfg_function(burn)
    with pytest.raises(ValueError, match="not finite.* in 1 of 2 pictures. They arose.*Lower cfg"):
        draw(model, latent=empty(batch=2))


def test_sampler_that_asks_at_sigma_0_gets_numbers(model):
    """Renormalizing divides by sigma."""
    from lumina_next.lumina.options.guidance import Guidance

    x, guided, prompt = torch.randn(3, 1, 4, 6, 6).unbind()
    found = Guidance(renorm=1.0, rescale=0.5).bounded(guided, prompt, x, torch.zeros(1))
    assert found.isfinite().all()
