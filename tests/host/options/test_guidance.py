"""The guidance node in ComfyUI: what it changes, what it saves, and beside whom it works."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.tests.support import tiny
from lumina_next.tests.support.tiny import GUIDANCE, NEGATIVE, POSITIVE, SEED, STEPS, ksampler


def guided(model, channels="released", start=1.0, end=0.0, renorm=0.0, rescale=0.0, zero_steps=0):
    from lumina_next.nodes.options.guidance import GuidanceNode

    return GuidanceNode.execute(model, channels, start, end, renorm, rescale, zero_steps)[0]


def batch_of(count, model):
    import nodes

    latent = {"samples": torch.zeros(count, 4, 16, 12)}
    return nodes.common_ksampler(
        model, SEED, STEPS, GUIDANCE, "euler", "normal", POSITIVE, NEGATIVE, latent
    )[0]["samples"]


def test_released_is_what_the_loader_gives(model):
    assert torch.equal(ksampler(guided(model)), ksampler(model))


def test_all_channels_guide_the_fourth_too(model):
    released, every = ksampler(model), ksampler(guided(model, "all"))
    assert not torch.allclose(released, every, atol=0.05)
    assert torch.equal(ksampler(guided(guided(model, "all"))), released)


def test_outside_its_interval_the_prompt_alone_draws(model):
    nowhere = guided(model, start=0.0)
    assert_close(ksampler(nowhere), ksampler_at_cfg(model, 1.0))


def ksampler_at_cfg(model, cfg):
    import nodes

    latent = {"samples": torch.zeros(1, 4, 16, 12)}
    return nodes.common_ksampler(
        model, SEED, STEPS, cfg, "euler", "normal", POSITIVE, NEGATIVE, latent
    )[0]["samples"]


def test_outside_its_interval_a_step_costs_half(model):
    watched, seen = tiny.count_forwards(guided(model, start=0.9, end=0.2))
    ksampler(watched)
    assert seen == [1, 2, 1]  # sigmas 1, 0.5, 0.001


def test_interval_keeps_a_skip_layer_node_working(model):
    import nodes

    skip = nodes.NODE_CLASS_MAPPINGS["SkipLayerGuidanceDiTSimple"]
    skipping = skip.execute(
        model, double_layers="1", single_layers="", start_percent=0.0, end_percent=1.0
    )[0]
    expected = ksampler(skipping)
    assert_close(ksampler(guided(skipping, start=1.0, end=0.0001)), expected)
    assert not torch.allclose(expected, ksampler(model), atol=0.01)


@pytest.mark.parametrize("rule", [{"renorm": 0.5}, {"rescale": 0.7}, {"zero_steps": 1}])
def test_rule_changes_the_picture_and_takes_batches(model, rule):
    found = batch_of(2, guided(model, **rule))
    assert not torch.allclose(found, batch_of(2, model), atol=0.01)
    assert found.isfinite().all()
    assert_close(found[:1], batch_of(1, guided(model, **rule)), rtol=0, atol=1e-3)


def test_zero_steps_leave_the_noise(model):
    every = ksampler(guided(model, zero_steps=STEPS))
    noise = torch.randn(1, 4, 16, 12, generator=torch.manual_seed(SEED))
    assert_close(every * tiny.SDXL_SCALE, noise)


def test_interval_survives_a_skip_layer_node_after_it(model):
    import nodes

    skip = nodes.NODE_CLASS_MAPPINGS["SkipLayerGuidanceDiTSimple"]
    interval = guided(model, start=0.9, end=0.2)
    skipping = skip.execute(
        interval, double_layers="1", single_layers="", start_percent=0.99, end_percent=1.0
    )[0]
    watched, seen = tiny.count_forwards(skipping)
    ksampler(watched)
    assert seen[:2] == [1, 2]


def test_composes_with_native_guidance_nodes(model):
    import nodes

    rescale = nodes.NODE_CLASS_MAPPINGS["RescaleCFG"]()
    native = rescale.patch(model, 0.7)[0]
    assert_close(ksampler(guided(native)), ksampler(native))


def test_interval_the_wrong_way_round_is_refused(model):
    with pytest.raises(ValueError, match="got start 0.2 and end 0.6"):
        guided(model, start=0.2, end=0.6)


@pytest.mark.parametrize(
    "wrong, text",
    [({"renorm": 11.0}, "renorm must be from 0 to 10, got 11.0"), ({"channels": "4"}, 'got "4"')],
)
def test_setting_out_of_range_is_refused(model, wrong, text):
    with pytest.raises(ValueError, match=text):
        guided(model, **wrong)


def test_model_of_another_kind_is_refused(model):
    class Other:
        class model_config:
            unet_config = {"image_model": "flux"}

    model = model.clone()
    model.model = Other()
    with pytest.raises(ValueError, match="not a Lumina-Next model but Other"):
        guided(model)
