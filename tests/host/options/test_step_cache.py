"""The TeaCache node in ComfyUI: what it skips, that nothing stays, and beside whom it works."""

import gc

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.options.step_cache import StepMemory
from lumina_next.tests.support import next_dits, option_nodes, tiny
from lumina_next.tests.support.tiny import GUIDANCE, NEGATIVE, POSITIVE, SEED


def cached(model, threshold=3.0, start=1.0, end=0.0):
    from lumina_next.nodes.options.step_cache import StepCacheNode

    return StepCacheNode.execute(model, threshold, start, end)[0]


def counted(model):
    """A clone of `model`, and the list that each run of its layers adds a batch size to."""
    passes = []

    def note(seen):
        passes.extend([len(seen["img"])] if seen["block_index"] == 0 else [])
        return {"img": seen["img"]}

    model = model.clone()
    model.set_model_double_block_patch(note)
    return model, passes


def draw(model, steps=8, cfg=GUIDANCE, positive=POSITIVE, negative=NEGATIVE, sampler="euler"):
    import nodes

    latent = {"samples": torch.zeros(1, 4, 16, 12)}
    return nodes.common_ksampler(
        model, SEED, steps, cfg, sampler, "normal", positive, negative, latent
    )[0]["samples"]


def differs(a, b):
    return not torch.allclose(a, b, atol=0.01)


def test_steps_are_skipped_above_the_threshold_only(model):
    model, passes = counted(model)
    base = draw(model)
    assert passes == [2] * 8
    assert torch.equal(draw(cached(model, 0.0)), base)
    assert passes == [2] * 16
    quick = draw(cached(model))
    assert 2 <= len(passes) - 16 < 8
    assert quick.isfinite().all() and differs(quick, base)


def test_first_and_last_step_are_computed(model):
    model, passes = counted(model)
    draw(cached(model), steps=2)
    assert passes == [2, 2]


def test_steps_outside_the_range_are_computed(model):
    model, passes = counted(model)
    base = draw(model)
    assert torch.equal(draw(cached(model, start=0.0)), base)
    assert passes == [2] * 16


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m"])
def test_other_samplers_skip_too(model, sampler):
    model, passes = counted(model)
    draw(model, sampler=sampler)
    every = len(passes)
    assert draw(cached(model), sampler=sampler).isfinite().all()
    assert len(passes) < 2 * every


def test_second_run_is_the_same_as_the_first(model):
    """So nothing is left of the first."""
    quick = cached(model)
    assert torch.equal(draw(quick), draw(quick))


def memories():
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, StepMemory)]


def test_nothing_is_left_after_a_run(model):
    quick = cached(model)
    draw(quick)
    assert memories() == []


def test_nothing_is_left_after_an_interrupt(model):
    import comfy.model_management as management

    class Stop(Exception):
        pass

    def stop(seen):
        if stop.calls > 3:
            raise management.InterruptProcessingException
        stop.calls += 1
        return {"img": seen["img"]}

    stop.calls = 0
    quick = cached(model)
    broken = quick.clone()
    broken.set_model_double_block_patch(stop)
    with pytest.raises(management.InterruptProcessingException):
        draw(broken)
    assert memories() == []
    assert_close(draw(quick), draw(cached(model)), rtol=0, atol=0)


def test_model_that_went_in_is_unchanged(model):
    model, passes = counted(model)
    cached(model)
    draw(model)
    assert passes == [2] * 8


def test_second_node_replaces_the_first(model):
    model, passes = counted(model)
    draw(cached(cached(model), 0.0))
    assert passes == [2] * 8


def test_each_prompt_has_its_own_memory_where_they_run_apart(model, monkeypatch):
    """As the host runs them where memory is short."""
    together = draw(cached(model))
    apart, passes = counted(cached(model))
    monkeypatch.setattr(type(apart.model), "memory_required", lambda *_, **__: 1e15)
    found = draw(apart)
    assert set(passes) == {1}
    tiny.assert_same_picture(found, together)


def test_works_beside_guidance_context_drop_and_resolution(model):
    from lumina_next.nodes.options.guidance import GuidanceNode

    model, passes = counted(model)
    changed = option_nodes.dropped(option_nodes.resolved(model, "linear"), 2, 1.0)
    changed = GuidanceNode.execute(changed, "all", 0.9, 0.2, 0.5, 0.0, 0)[0]
    base = draw(changed)
    every = len(passes)
    quick = draw(cached(changed))
    assert quick.isfinite().all() and len(passes) - every < every
    assert torch.equal(draw(cached(changed, 0.0)), base)


def test_prompt_for_an_area_has_its_own_memory(model):
    area = [[POSITIVE[0][0], {**POSITIVE[0][1], "area": (8, 6, 0, 0), "strength": 1.0}]]
    model, passes = counted(model)
    draw(model, positive=[*POSITIVE, *area])
    every = len(passes)
    assert draw(cached(model), positive=[*POSITIVE, *area]).isfinite().all()
    assert len(passes) - every < every


def test_skip_layer_guidance_does_not_read_the_prompts_memory(model):
    import nodes

    skip = nodes.NODE_CLASS_MAPPINGS["SkipLayerGuidanceDiT"]
    skipping = skip.execute(
        model, double_layers="1", single_layers="", scale=3.0, start_percent=0.0,
        end_percent=1.0, rescaling_scale=0.0,
    )[0]  # fmt: skip
    watched, passes = counted(skipping)
    draw(watched, steps=4)
    every = len(passes)
    draw(cached(watched, 0.85), steps=4)  # below what no change at all is estimated as
    assert len(passes) - every >= 4
    assert draw(cached(skipping)).isfinite().all()


def test_compiled_model_skips_the_same_steps(model):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    quick = cached(model)
    compiled = quick.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")
    tiny.assert_same_picture(draw(compiled, steps=5), draw(quick, steps=5))


def test_other_size_than_the_coefficients_were_fitted_to_is_said(model, caplog):
    with caplog.at_level("INFO"):
        cached(model)
    assert (
        "fitted to Lumina-Next 2B (24 layers, width 2304). This MODEL has 3 layers" in caplog.text
    )
    caplog.clear()
    with caplog.at_level("INFO"):
        cached(model, 0.0)
    assert "fitted" not in caplog.text


def test_flag_dit_is_refused(folder):
    from lumina_next.host.model.loading import load_model

    save_file(next_dits.native_weights(next_dits.TINY_FLAG_DIT), folder / "flag.safetensors")
    with pytest.raises(ValueError, match="this MODEL is a Flag-DiT. Use EasyCache"):
        cached(load_model("flag.safetensors"))


def test_run_says_how_much_it_skipped(model, caplog):
    with caplog.at_level("INFO"):
        draw(cached(model))
    assert "Lumina-Next TeaCache skipped" in caplog.text and "of 8 model calls" in caplog.text
