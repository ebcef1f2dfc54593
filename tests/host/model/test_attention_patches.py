"""Patches of self-attention by other packs: called as the host's Flux calls them, or refused."""

import pytest
import torch

from lumina_next.tests.support.tiny import CONFIG, assert_same_picture, ksampler


@pytest.fixture
def model(load, folder):
    return load("native.safetensors")


def patched(model, before, after=None):
    model = model.clone()
    model.set_model_attn1_patch(before)
    if after is not None:
        model.set_model_attn1_output_patch(after)
    return model


def test_patch_gets_all_heads_before_rotation_and_changes_what_it_names(model):
    shapes = set()

    def double(q, k, v, pe, attn_mask, extra_options):
        assert attn_mask is None and "block_index" in extra_options
        shapes.add((q.shape[1:], k.shape[1:], v.shape[1:], pe.shape))
        return {"v": 2 * v}

    found = ksampler(patched(model, double), 16, 12)
    head_dim = CONFIG.head_dim
    each = torch.Size((CONFIG.heads, 48, head_dim))
    assert shapes == {(each, each, each, torch.Size((1, 48, 1, head_dim // 2, 2, 2)))}
    assert not torch.allclose(found, ksampler(model, 16, 12), atol=0.05)


def test_repeated_heads_draw_the_same(model):
    expected = ksampler(model)
    assert_same_picture(ksampler(patched(model, lambda q, k, v, **rest: {})), expected)


def test_pair_that_takes_fewer_queries_gives_each_token_an_output(model):
    """As token merging: half of the queries are left out, and their neighbors' outputs returned."""

    def merge(q, k, v, pe, attn_mask, extra_options):
        # Keys and values stay; rotation is per token, so the table's rows must be those left.
        return {"q": q[:, :, ::2], "k": k[:, :, ::2], "v": v[:, :, ::2], "pe": pe[:, ::2]}

    def unmerge(out, extra_options):
        return out.repeat_interleave(2, dim=1)

    found = ksampler(patched(model, merge, unmerge), 16, 12)
    assert found.shape == (1, 4, 16, 12) and found.isfinite().all()
    assert not torch.allclose(found, ksampler(model, 16, 12), atol=0.05)


@pytest.mark.parametrize(
    "patch",
    [lambda q, k, v, extra_options: (q, k, v), lambda q, k, v, *rest, **options: (q, k, v)],
    ids=["other arguments", "tuple"],
)
def test_patch_for_u_nets_is_refused(model, patch):
    with pytest.raises(ValueError, match="Lumina-Next is no U-Net.*HyperTile"):
        ksampler(patched(model, patch))


def test_error_inside_a_patch_is_its_own(model):
    def broken(q, k, v, pe, attn_mask, extra_options):
        raise TypeError("of the patch itself")

    with pytest.raises(TypeError, match="of the patch itself"):
        ksampler(patched(model, broken))
