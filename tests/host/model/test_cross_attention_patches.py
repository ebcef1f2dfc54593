"""Regions of other packs: patches of cross-attention that draw every prompt where it belongs.

A picture by their conventions is that of our own regions, as both weigh what was read.
"""

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import FlagDiTConfig
from lumina_next.lumina.model.flag_dit import FlagDiT
from lumina_next.tests.support.couples import AttentionCouple, AttentionMask, Couple
from lumina_next.tests.support.native_graphs import differs, sample
from lumina_next.tests.support.random_weights import randomize
from lumina_next.tests.support.region_nodes import FIRST, LEFT, SECOND, left_mask, regions
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE, assert_same_picture, ksampler


@pytest.fixture
def model(load, folder):
    return load("native.safetensors")


def masks(height=16, width=12):
    left = left_mask(height, width)
    return torch.stack([1 - left, left])


def texts(*prompts):
    return [prompt[0][0] for prompt in prompts]


KINDS = {
    "prompt-control": (Couple, [FIRST]),
    "ppm": (AttentionCouple, [FIRST]),
    "krita": (AttentionMask, [POSITIVE, FIRST]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_prompts_are_drawn_where_they_belong(model, kind):
    make, prompts = KINDS[kind]
    found = ksampler(make(masks(), texts(*prompts)).patched(model))
    # The base prompt is the global one; prompt-control's regions act in the negative prompt too.
    negative = regions((FIRST, LEFT), global_prompt=NEGATIVE) if make is Couple else NEGATIVE
    expected = ksampler(model, positive=regions((FIRST, LEFT)), negative=negative)
    assert_same_picture(found, expected)
    assert differs(found, ksampler(model))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 15, 11), (3, 16, 12)])
def test_odd_sizes_and_batches_are_drawn(model, kind, shape):
    make, prompts = KINDS[kind]
    batch, height, width = shape
    couple = make(masks(height, width), texts(*prompts))
    latent = {"samples": torch.zeros(batch, 4, height, width)}
    found = sample(couple.patched(model), latent=latent)
    assert found.isfinite().all() and differs(found, sample(model, latent=latent))


def test_padding_of_the_shorter_prompt_is_not_read(model):
    """The negative prompt is padded to the length of the prompt; both are repeated after that."""
    found = ksampler(AttentionCouple(masks(), texts(FIRST)).patched(model), positive=SECOND)
    expected = ksampler(model, positive=regions((FIRST, LEFT), global_prompt=SECOND))
    assert_same_picture(found, expected)


def test_patches_that_change_nothing_draw_the_same(model):
    patched = model.clone()
    patched.set_model_attn2_patch(lambda n, context, value, extra_options: (n, context, value))
    patched.set_model_attn2_output_patch(lambda out, extra_options: out)
    assert_same_picture(ksampler(patched), ksampler(model))


def test_output_patch_alone_is_called(model):
    patched = model.clone()
    patched.set_model_attn2_output_patch(lambda out, extra_options: 0 * out)
    silent = [[torch.zeros_like(POSITIVE[0][0]), POSITIVE[0][1]]]
    muted = sample(patched, cfg=1.0)
    assert differs(muted, sample(model, cfg=1.0))
    # Without the captions' words only their mean is left, here that of another prompt.
    assert differs(muted, sample(model, silent, cfg=1.0))


def test_patches_get_what_u_nets_give(model):
    seen = {}

    def look(n, context, value, extra_options):
        names = ("original_shape", "activations_shape", "n_heads", "dim_head", "block_index")
        seen.update({name: extra_options[name] for name in names})
        seen["shapes"] = n.shape, context.shape, len(extra_options["cond_or_uncond"])
        return n, context, value

    patched = model.clone()
    patched.set_model_attn2_patch(look)
    ksampler(patched, 15, 12)
    assert seen["original_shape"] == [2, 4, 15, 12]
    assert seen["activations_shape"] == [2, 32, 8, 6]
    assert (seen["n_heads"], seen["dim_head"], seen["block_index"]) == (4, 8, 2)
    assert seen["shapes"] == ((2, 48, 32), (2, 11, 24), 2)


def test_keys_and_values_may_differ(model):
    def other_values(n, context, value, extra_options):
        return n, context, value * torch.linspace(0.5, 2, value.shape[-1])

    patched = model.clone()
    patched.set_model_attn2_patch(other_values)
    assert differs(ksampler(patched), ksampler(model))


@pytest.mark.parametrize("out", [None, {"q": 1}, (1, 2, 3), (torch.ones(1),)])
def test_patch_of_another_form_is_refused(model, out):
    patched = model.clone()
    patched.set_model_attn2_patch(lambda *given: out)
    with pytest.raises(ValueError, match="in a way that this model cannot follow"):
        ksampler(patched)


def test_repeated_batch_that_nobody_adds_up_is_refused(model):
    patched = model.clone()
    patched.set_model_attn2_patch(Couple(masks(), texts(FIRST)).before)
    with pytest.raises(ValueError, match="2 x 48 tokens, cross-attention with 4 x 48"):
        ksampler(patched)


def test_our_regions_beside_theirs_are_refused(model):
    patched = Couple(masks(), texts(FIRST)).patched(model)
    with pytest.raises(ValueError, match="Use one of the two"):
        ksampler(patched, positive=regions((FIRST, LEFT)))


def test_flag_dit_whose_tokens_are_no_grid_refuses_them(load, folder):
    config = FlagDiTConfig(dim=32, layers=2, heads=4, kv_heads=2, caption_dim=24, ffn_dim=88)
    network = randomize(FlagDiT(config), std=0.15)
    weights = key_names.to_file_keys(network.state_dict())
    save_file({"pad_token": torch.ones(32), **weights}, folder / "flag-couple.safetensors")
    flag_dit = load("flag-couple.safetensors")
    patched = Couple(masks(), texts(FIRST)).patched(flag_dit)
    with pytest.raises(ValueError, match='each row has one more. Use "Lumina-Next Regions"'):
        ksampler(patched)


def test_model_is_unchanged_for_others(model):
    before = ksampler(model)
    AttentionMask(masks(), texts(POSITIVE, FIRST)).patched(model)
    assert_close(ksampler(model), before, rtol=0, atol=0)
