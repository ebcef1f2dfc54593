"""Fewer keys and values in some layers: which ones, and what stays as it was."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.lumina.options.context_drop import ORDERS, Cells, ContextDrop
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.tests.support.random_weights import randomize

CONFIG = NextDiTConfig(dim=48, layers=4, heads=4, kv_heads=2, caption_dim=20, ffn_dim=64)
EVERY_LAYER = frozenset(range(CONFIG.layers))


@pytest.fixture(scope="module")
def model():
    return randomize(NextDiT(CONFIG), std=0.15)


def inputs(height=8, width=8):
    torch.manual_seed(1)
    return torch.randn(2, 4, height, width), torch.rand(2), torch.randn(2, 5, 20)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_cells_are_averaged_edges_included(height, width, factor):
    x = torch.randn(2, 3, height * width, 4)
    grid = x.unflatten(2, (height, width))
    expected = [
        grid[:, :, top : top + factor, left : left + factor].mean((2, 3))
        for top in range(0, height, factor)
        for left in range(0, width, factor)
    ]
    found = Cells(height, width, factor).pooled(x)
    torch.testing.assert_close(found, torch.stack(expected, dim=2))


@pytest.mark.parametrize("batch", [1, 2])
def test_averages_lie_in_memory_as_fast_attention_needs_them(batch):
    seen = torch.randn(batch, 64, 3, 4).transpose(1, 2)  # as the model splits its heads
    assert Cells(8, 8, 2).pooled(seen).stride(-1) == 1


@pytest.mark.parametrize("order", ORDERS)
@given(st.floats(0, 1), st.floats(0.1, 1), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_dropping_layers_fall_linearly_with_time(order, t, until, count):
    found = ContextDrop(2, until, order).layers(t, count)
    assert len(found) == round(count * max(0.0, 1 - t / until))
    assert found <= set(range(count))


@pytest.mark.parametrize("order", ORDERS)
def test_every_layer_drops_in_noise_and_none_at_the_end(order):
    drop = ContextDrop(2, 0.5, order)
    assert drop.layers(0.0, 24) == set(range(24))
    assert drop.layers(0.5, 24) == drop.layers(1.0, 24) == set()


def test_orders_drop_different_layers():
    assert ContextDrop(2, 1.0, "first").layers(0.5, 8) == {0, 1, 2, 3}
    assert ContextDrop(2, 1.0, "last").layers(0.5, 8) == {4, 5, 6, 7}
    assert ContextDrop(2, 1.0, "spread").layers(0.5, 8) == {0, 2, 4, 6}


def test_factor_one_drops_nothing():
    assert ContextDrop(1).layers(0.0, 24) == set()


def test_layers_that_do_not_drop_are_untouched_to_the_bit(model):
    expected = model(*inputs())
    found = model(*inputs(), None, ForwardOptions(cells=Cells(4, 4, 2), dropping=frozenset()))
    assert torch.equal(found, expected)


def test_dropping_layers_see_fewer_keys():
    seen = []

    def attention(q, k, v, **rest):
        seen.append((q.shape[2], k.shape[2], v.shape[2]))
        return q

    options = ForwardOptions(cells=Cells(4, 4, 2), dropping=frozenset({1, 2}))
    NextDiT(CONFIG, attention=attention)(*inputs(), None, options)
    whole, dropped, caption = (16, 16, 16), (16, 4, 4), (16, 5, 5)
    assert seen == [whole, caption, dropped, caption, dropped, caption, whole, caption]


def test_picture_of_equal_tokens_does_not_notice(model):
    x, t, caption = inputs()
    flat = torch.ones(1, 16, 1, 6, 2, 2) * torch.eye(2)  # no rotation: all keys of a cell agree
    options = ForwardOptions(rotation=flat, cells=Cells(4, 4, 2), dropping=EVERY_LAYER)
    x = x[:, :, :1, :1].expand(-1, -1, 8, 8)
    expected = model(x, t, caption, None, ForwardOptions(rotation=flat))
    torch.testing.assert_close(model(x, t, caption, None, options), expected)


def test_odd_grids_are_dropped_too(model):
    options = ForwardOptions(cells=Cells(3, 5, 2), dropping=EVERY_LAYER)
    found = model(*inputs(6, 10), None, options)
    assert found.isfinite().all() and not torch.equal(found, model(*inputs(6, 10)))


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"factor": 0}, "factor must be a whole number from 1 to 8, got 0"),
        ({"until": 0.0}, "until must be from 0.01 to 1, got 0.0"),
        ({"order": "odd"}, 'got "odd"'),
    ],
)
def test_wrong_settings_are_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        ContextDrop(**wrong)
