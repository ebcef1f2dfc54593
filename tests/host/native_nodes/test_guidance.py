"""ComfyUI's own guidance nodes and patches on this MODEL."""

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import has_node, node
from lumina_next.tests.support.native_graphs import (
    GUIDANCE,
    OTHER,
    differs,
    guess,
    guided,
    load,
    sample,
)
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE, assert_same_picture


def test_rescaled_guidance_has_the_spread_of_the_prompt(model):
    none = node("RescaleCFG", model=model, multiplier=0.0)
    assert_same_picture(guess(none, cfg=GUIDANCE), guess(model, cfg=GUIDANCE))

    # In the terms of the node, at sigma 1, from pure noise: v = sqrt(2) * (picture - noise / 2).
    noise = torch.randn(1, 4, 16, 12, generator=torch.manual_seed(7))

    def v(picture):
        return 2**0.5 * (picture * tiny.SDXL_SCALE - noise / 2)

    full = guess(node("RescaleCFG", model=model, multiplier=1.0), cfg=GUIDANCE)
    wanted, unwanted = v(guess(model)), v(guess(model, NEGATIVE))
    plain = unwanted + GUIDANCE * (wanted - unwanted)
    expected = plain * wanted.std() / plain.std()
    assert_same_picture(v(full)[:, :3], expected[:, :3])
    assert differs(full, guess(model, cfg=GUIDANCE))


def test_renormed_guidance_has_the_length_of_the_prompt(model):
    renormed = node("RenormCFG", model=model, cfg_trunc=100.0, renorm_cfg=1.0)
    wanted, unwanted = guess(model), guess(model, NEGATIVE)
    plain = unwanted + GUIDANCE * (wanted - unwanted)
    assert plain.norm() > wanted.norm()
    expected = plain * wanted.norm() / plain.norm()
    assert_same_picture(guess(renormed, cfg=GUIDANCE)[:, :3], expected[:, :3])
    truncated = node("RenormCFG", model=model, cfg_trunc=0.0, renorm_cfg=1.0)
    assert_same_picture(guess(truncated, cfg=GUIDANCE), wanted)


def by_guider(guider):
    latent = {"samples": torch.zeros(1, 4, 16, 12)}
    sigmas = torch.tensor([1.0, 0.6, 0.2, 0.0])
    noise, sampler = node("RandomNoise", noise_seed=7), node("KSamplerSelect", sampler_name="euler")
    drawn, _ = node(
        "SamplerCustomAdvanced",
        noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent,
    )  # fmt: skip
    return drawn["samples"]


@pytest.mark.parametrize("other", ["native.safetensors", None])
def test_guider_without_a_negative_leads_away_from_no_text_at_all(model, other):
    if not has_node("DualModelGuider"):
        pytest.skip("this ComfyUI has no Dual Model Guider")
    given = {"model": model, "positive": POSITIVE, "cfg": GUIDANCE}
    if other:
        given["model_negative"] = load(other)
    found = by_guider(node("DualModelGuider", **given))
    (silent,) = node("ConditioningZeroOut", conditioning=NEGATIVE)
    guider = node("CFGGuider", model=model, positive=POSITIVE, negative=[silent], cfg=GUIDANCE)
    assert_same_picture(found, by_guider(guider))
    assert differs(found, by_guider(node("BasicGuider", model=model, conditioning=POSITIVE)))


def test_prompt_that_is_missing_is_still_an_error(model):
    with pytest.raises(ValueError, match="holds no encoded prompt"):
        guess(model, positive=[[None, {}]])


def test_skip_layer_guidance_leads_away_from_the_model_without_the_layer(model):
    skipping = node(
        "SkipLayerGuidanceDiT", model=model, double_layers="1", single_layers="", scale=2.5,
        start_percent=0.0, end_percent=1.0, rescaling_scale=0.0,
    )  # fmt: skip
    without = model.clone()
    without.set_model_patch_replace(lambda args, extra: args, "dit", "double_block", 1)
    wanted, unwanted, worse = guess(model), guess(model, NEGATIVE), guess(without)
    assert differs(worse, wanted)
    expected = guided(wanted, unwanted) + 2.5 * (wanted - worse)
    assert_same_picture(guess(skipping, cfg=GUIDANCE), expected)


def test_simple_skip_layer_guidance_weakens_the_negative(model):
    skipping = node(
        "SkipLayerGuidanceDiTSimple", model=model, double_layers="0, 2", single_layers="",
        start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    without = model.clone()
    for layer in (0, 2):
        without.set_model_patch_replace(lambda args, extra: args, "dit", "double_block", layer)
    assert differs(guess(without, NEGATIVE), guess(model, NEGATIVE))
    expected = guided(guess(model), guess(without, NEGATIVE))
    assert_same_picture(guess(skipping, cfg=GUIDANCE), expected)


def test_normalized_attention_guidance_makes_the_negative_count_at_guidance_1(model):
    def nag(alpha):
        return node("NAGuidance", model=model, nag_scale=5.0, nag_alpha=alpha, nag_tau=1.5)

    assert_same_picture(guess(model, POSITIVE, OTHER), guess(model, POSITIVE, NEGATIVE))
    assert differs(guess(nag(0.5), POSITIVE, OTHER), guess(nag(0.5), POSITIVE, NEGATIVE))
    assert_same_picture(guess(nag(0.0)), guess(model))


def test_rope_is_scaled_only_where_the_scale_is_not_1(model):
    def rope(**changes):
        settings = {"scale_x": 1.0, "scale_y": 1.0, "scale_t": 1.0} | changes
        shifts = {"shift_x": 0.0, "shift_y": 0.0, "shift_t": 0.0}
        return node("ScaleROPE", model=model, **shifts, **settings)

    assert_close(sample(rope()), sample(model), rtol=0, atol=0)
    wide, tall = sample(rope(scale_x=0.3)), sample(rope(scale_y=0.3))
    assert differs(wide, sample(model)) and differs(tall, sample(model)) and differs(wide, tall)


def counted(model):
    """A clone of the model and the list that each forward pass, as it ends, adds to."""
    passes = []

    def note(seen):
        passes.extend([len(seen["img"])] if seen["block_index"] == 0 else [])
        return {"img": seen["img"]}

    model = model.clone()
    model.set_model_double_block_patch(note)
    return model, passes


@pytest.mark.parametrize("cache", ["EasyCache", "LazyCache"])
def test_cache_skips_passes_above_its_threshold_only(model, cache):
    model, passes = counted(model)

    def cached(threshold):
        return node(
            cache, model=model, reuse_threshold=threshold, start_percent=0.0, end_percent=1.0,
            verbose=False,
        )  # fmt: skip

    base = sample(model, steps=8)
    assert passes == [2] * 8
    assert_close(sample(cached(0.0), steps=8), base, rtol=0, atol=0)
    assert passes == [2] * 16
    quick = sample(cached(3.0), steps=8)
    assert len(passes) - 16 < 6
    assert quick.isfinite().all() and differs(quick, base)


@pytest.fixture
def shallow(host):
    """A model of one layer: compiling takes seconds for each."""
    kept = {key: tensor for key, tensor in tiny.weights().items() if not is_deep(key)}
    save_file(kept, host.models / "diffusion_models" / "shallow.safetensors")
    return load("shallow.safetensors")


def is_deep(key):
    return key.startswith("layers.") and not key.startswith("layers.0.")


def test_compiled_model_is_one_graph_for_all_steps_and_settings(shallow, monkeypatch):
    import comfy.ldm.modules.attention as attention
    import torch._dynamo
    from torch._dynamo.utils import counters

    # The attention of graphics cards; the CPU's own asks for free memory and breaks the graph.
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    torch._dynamo.reset()
    counters.clear()
    compiled = node("TorchCompileModel", model=shallow, backend="aot_eager")

    def scaled(model, scale):
        return node(
            "ScaleROPE", model=model, scale_x=scale, shift_x=0.0, scale_y=1.0, shift_y=0.0,
            scale_t=1.0, shift_t=0.0,
        )  # fmt: skip

    assert_same_picture(sample(compiled), sample(shallow))
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    for scale in (0.5, 0.25):
        assert_same_picture(sample(scaled(compiled, scale)), sample(scaled(shallow, scale)))
    assert counters["stats"]["unique_graphs"] == 2
    assert differs(sample(scaled(compiled, 0.5)), sample(compiled))
