"""A MODEL on a processor takes some tokens at a time, to the same picture, and no card does."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.tests.support.tiny import POSITIVE, plain_model


@pytest.fixture
def small_pieces(host, monkeypatch):
    from lumina_next.host.model import ops

    monkeypatch.setattr(ops, "TOKENS_PER_NORM", 3)
    monkeypatch.setattr(ops, "TOKENS_PER_PRODUCT", 7)


def fed(model, monkeypatch):
    """How many tokens each call of the first feed-forward gets, as they come."""
    layer, lengths = model.model.diffusion_model.layers[0].feed_forward, []
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda x: lengths.append(x.shape[1]) or forward(x))
    return lengths


@pytest.mark.parametrize("batch", [1, 2])
def test_model_draws_the_same_in_pieces(load, small_pieces, monkeypatch, batch):
    model = load("native.safetensors")
    lengths = fed(model, monkeypatch)
    x, sigma = torch.randn(batch, 4, 10, 6), torch.full((batch,), 0.4)
    caption = POSITIVE[0][0].expand(batch, -1, -1)
    found = model.model.apply_model(x, sigma, c_crossattn=caption)
    assert_close(found, x + sigma[0] * plain_model()(x, 1 - sigma, caption))
    assert sum(lengths) == 15 and len(lengths) > 2


def test_other_nodes_see_all_tokens(load, small_pieces):
    model, seen = load("native.safetensors"), []
    model.set_model_patch(
        lambda q, k, v, pe, attn_mask, extra_options: seen.extend([q.shape[2], pe.shape[1]]) or {},
        "attn1_patch",
    )
    model.set_model_patch(
        lambda n, context, value, extra_options: seen.append(n.shape[1]) or (n, context, value),
        "attn2_patch",
    )
    options = model.model_options["transformer_options"]
    x, sigma = torch.randn(1, 4, 10, 6), torch.tensor([0.4])
    model.model.apply_model(x, sigma, c_crossattn=POSITIVE[0][0], transformer_options=options)
    assert seen and set(seen) == {15}


def test_weights_that_are_cast_are_multiplied_whole(load, small_pieces, monkeypatch):
    model = load("native.safetensors")
    monkeypatch.setattr(model.model, "manual_cast_dtype", torch.float32)
    lengths = fed(model, monkeypatch)
    x, sigma = torch.randn(1, 4, 10, 6), torch.tensor([0.4])
    model.model.apply_model(x, sigma, c_crossattn=POSITIVE[0][0])
    assert lengths == [15]


def test_cards_take_all_tokens(host):
    from lumina_next.host.model.ops import tokens_at_once

    assert tokens_at_once(torch.device("cuda"), casts_weights=False) == (None, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_on_a_processor_is_the_hosts(host, dtype):
    import comfy.ldm.flux.math

    from lumina_next.host.model.ops import rotate
    from lumina_next.lumina import rope

    table = rope.trained_table((3, 5), 8)
    x = torch.randn(2, 20, 4, 9, dtype=dtype)[:, 2:17, :, :8]  # strides that no complex view has
    assert_close(rotate(x, table), comfy.ldm.flux.math.apply_rope1(x, table))
