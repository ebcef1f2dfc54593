"""ComfyUI's own samplers on this MODEL."""

from torch.testing import assert_close

from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import (
    GUIDANCE,
    OTHER,
    advanced,
    differs,
    empty,
    guess,
    guided,
    sample,
)
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE, assert_same_picture


def unusable(samplers, schedulers, model):
    """Which pairs fail, or give anything but finite numbers that depend on the model."""
    problems = {}
    for sampler in samplers:
        for scheduler in schedulers:
            try:
                out = sample(
                    model, latent=empty(8, 8), sampler_name=sampler, scheduler=scheduler, steps=2
                )
            except Exception as error:
                problems[sampler, scheduler] = repr(error)
                continue
            if not out.isfinite().all() or out.std() == 0:
                problems[sampler, scheduler] = out
    return problems


def test_every_sampler_gives_finite_numbers(model):
    import comfy.samplers

    samplers = comfy.samplers.KSampler.SAMPLERS
    assert len(samplers) > 40
    assert not unusable(samplers, ["normal"], model)


def test_every_scheduler_gives_finite_numbers(model):
    import comfy.samplers

    assert not unusable(["euler"], comfy.samplers.KSampler.SCHEDULERS, model)


def test_two_halves_are_one_run(model):
    half = advanced(model, 0, 2, noise=True, leftover=True)
    whole = advanced(model, 2, 4, half, noise=False, leftover=False)["samples"]
    assert_same_picture(whole, sample(model, steps=4))
    assert differs(half["samples"], whole)


def custom(guider, steps=3):
    """SamplerCustomAdvanced with the noise, steps and sampler of `sample`."""
    sigmas = node(
        "BasicScheduler", model=guider.model_patcher, scheduler="normal", steps=steps, denoise=1.0
    )
    out = node(
        "SamplerCustomAdvanced",
        noise=node("RandomNoise", noise_seed=7),
        guider=guider,
        sampler=node("KSamplerSelect", sampler_name="euler"),
        sigmas=sigmas,
        latent_image=empty(),
    )
    return out[0]["samples"]


def test_basic_guider_is_guidance_1(model):
    found = custom(node("BasicGuider", model=model, conditioning=POSITIVE))
    assert_close(found, sample(model, cfg=1.0), rtol=0, atol=0)


def test_cfg_guider_is_ksampler(model):
    guider = node("CFGGuider", model=model, positive=POSITIVE, negative=NEGATIVE, cfg=GUIDANCE)
    assert_close(custom(guider), sample(model), rtol=0, atol=0)


def test_dual_cfg_guider_adds_a_second_prompt(model):
    guider = node(
        "DualCFGGuider", model=model, cond1=POSITIVE, cond2=OTHER, negative=NEGATIVE,
        cfg_conds=2.0, cfg_cond2_negative=GUIDANCE, style="regular",
    )  # fmt: skip
    first, second, negative = (guess(model, c) for c in (POSITIVE, OTHER, NEGATIVE))
    expected = guided(second, negative) + 2.0 * (first - second)
    assert_same_picture(custom(guider, steps=1), expected)


def test_picture_of_a_batch_is_the_one_drawn_alone(model):
    batch = empty(16, 12, batch=3)
    alone = node("LatentFromBatch", samples=batch, batch_index=2, length=1)
    assert_same_picture(sample(model, latent=batch)[2:], sample(model, latent=alone))
