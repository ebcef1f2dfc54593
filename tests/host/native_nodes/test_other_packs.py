"""What other node packs do to this MODEL and CLIP: patches, wrappers, samplers, schedules, LoRAs.

Each kind is written here anew, from what such packs do; none of them is installed.
"""

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import OTHER, advanced, differs, empty, load, sample
from lumina_next.tests.support.option_nodes import dropped, resolved
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE, assert_same_picture

# --- attention overrides and patches


def plain_attention(func, q, k, v, heads, mask=None, skip_reshape=False, **others):
    """An override that knows neither `scale` nor `enable_gqa`, as those for fast kernels are.

    They take q, k and v (B, heads, L, head_dim) of equal heads, and scale as attention does.
    """
    assert skip_reshape and q.shape[1] == k.shape[1] == v.shape[1] == heads
    weights = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    out = (weights if mask is None else weights + mask).softmax(-1) @ v
    return out if others.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)


def with_override(model, override):
    model = model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    return model


@pytest.mark.parametrize("attention", ["off", "on"])
def test_attention_override_without_scale_and_groups_draws_the_same(model, attention):
    settled = resolved(model, "linear", attention=attention)
    assert_same_picture(sample(with_override(settled, plain_attention)), sample(settled))


def test_pair_of_attention_patches_is_undone_or_refused_in_words(model):
    """As packs that merge tokens: one patch before attention, and its inverse on the output."""
    doubled = []

    def double(q, k, v, *args, **kwargs):
        doubled.append(v.shape)
        changed = {"q": q, "k": k, "v": 2 * v}
        return changed if "pe" in kwargs else tuple(changed.values())

    def halve(out, extra_options):
        return out / 2 if doubled.pop() else out

    patched = model.clone()
    patched.set_model_attn1_patch(double)
    patched.set_model_attn1_output_patch(halve)
    try:
        found = sample(patched)
    except ValueError as refusal:
        assert "attn1_patch" in str(refusal)
    else:
        assert found.isfinite().all()


def test_patches_of_cross_attention_leave_a_picture(model):
    patched = model.clone()
    patched.set_model_attn2_patch(lambda q, k, v, extra_options: (q, k, v))
    patched.set_model_attn2_output_patch(lambda out, extra_options: out)
    assert_close(sample(patched), sample(model), rtol=0, atol=0)


# --- wrappers and samplers


def in_two_tiles(apply_model, arguments):
    """A wrapper that calls the model for the left and the right half of the latent by itself."""
    x, sigma, c = arguments["input"], arguments["timestep"], arguments["c"]
    halves = [apply_model(half, sigma, **c) for half in x.chunk(2, dim=-1)]
    return torch.cat(halves, dim=-1)


def test_tiling_wrapper_draws_each_tile_for_itself(model):
    tiled = model.clone()
    tiled.set_model_unet_function_wrapper(in_two_tiles)
    plain = tiny.plain_model()

    def velocity(x, t, caption):
        return torch.cat([plain(half, t, caption) for half in x.chunk(2, dim=-1)], dim=-1)

    found = tiny.ksampler(tiled, height=16, width=16)
    assert_same_picture(found, tiny.euler(velocity, model, height=16, width=16))


@pytest.mark.parametrize("option", [resolved, dropped])
def test_tiling_wrapper_leaves_a_picture_with_our_options(model, option):
    tiled = option(model).clone()
    tiled.set_model_unet_function_wrapper(in_two_tiles)
    found = tiny.ksampler(tiled, height=16, width=16)
    assert found.isfinite().all() and found.std() > 0


def settled_at_zero(model, x, sigmas, extra_args, callback, disable):
    """A sampler that goes to sigma 0 in one step and asks the model there once more."""
    ones = x.new_ones(len(x))
    x = model(x, sigmas[0] * ones, **extra_args)
    return model(x, 0 * ones, **extra_args) - x


@pytest.mark.parametrize("option", [lambda model: model, resolved, dropped])
def test_model_called_at_sigma_0_gives_its_input_back(model, option):
    import comfy.samplers

    steps = {"model": option(model), "sigmas": torch.tensor([1.0, 0.0])}
    _, change = node(
        "SamplerCustom", add_noise=True, noise_seed=7, cfg=4.0, positive=POSITIVE,
        negative=NEGATIVE, sampler=comfy.samplers.KSAMPLER(settled_at_zero), latent_image=empty(),
        **steps,
    )  # fmt: skip
    assert_close(change["samples"], torch.zeros(1, 4, 16, 12), rtol=0, atol=1e-4)


# --- prompts


def test_pack_that_asks_for_tokens_of_clip_l_is_told_what_there_is(clip):
    tokens = clip.tokenize("a red cat")
    assert tokens.get("l") is None and "l" not in tokens
    with pytest.raises(KeyError, match='no tokens of "l".*gemma_2b.*CLIP Text Encode'):
        tokens["l"]
    assert dict(tokens) == tokens and tokens["gemma_2b"]


def scheduled(*prompts):
    """A CONDITIONING as prompt schedules write it: (prompt, start, end) with shares of the steps"""
    return [
        [features, {**rest, "start_percent": start, "end_percent": end}]
        for (((features, rest),), start, end) in prompts
    ]


def test_prompt_schedule_changes_the_prompt_at_its_times(model):
    # Sigmas of the four steps: 1, 0.667, 0.334, 0.001.
    schedule = scheduled((POSITIVE, 0.0, 0.2), (OTHER, 0.2, 0.5), (NEGATIVE, 0.5, 1.0))
    first = advanced(model, 0, 1, positive=POSITIVE, noise=True, leftover=True)
    second = advanced(model, 1, 2, first, OTHER, noise=False, leftover=True)
    expected = advanced(model, 2, 4, second, NEGATIVE, noise=False, leftover=False)["samples"]
    assert_same_picture(sample(model, schedule, steps=4), expected)
    assert differs(expected, sample(model, steps=4))


# --- LoRAs


def test_lora_extracted_by_the_host_and_loaded_again_is_the_change(host, model):
    generator = torch.Generator().manual_seed(5)
    changes = {
        key: value + 0.3 * torch.randn(value.shape, generator=generator)
        for key, value in tiny.weights().items()
        if "layers.1." in key
    }
    path = host.models / "diffusion_models" / "tuned.safetensors"
    save_file(tiny.weights() | changes, path)
    tuned = load(path.name)
    difference = node("ModelMergeSubtract", model1=tuned, model2=model, multiplier=1.0)
    node(
        "LoraSave", filename_prefix="extracted", rank=8, lora_type="full_diff", bias_diff=True,
        model_diff=difference,
    )  # fmt: skip
    (saved,) = host.output.glob("extracted*.safetensors")
    saved.rename(host.models / "loras" / "extracted.safetensors")
    again = node(
        "LoraLoaderModelOnly", model=model, lora_name="extracted.safetensors", strength_model=1.0
    )
    expected = sample(tuned)
    # The host writes LoRAs in 16 bits.
    assert_close(sample(again), expected, rtol=0, atol=0.01 * float(expected.std()))
    assert differs(expected, sample(model))
