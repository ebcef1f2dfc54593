"""The comparison of the two ways to average keys does what it says, on random keys."""

import importlib

import pytest
import torch
from torch.testing import assert_close

HEAD_DIM = 8


@pytest.fixture
def pooling():
    return importlib.import_module("benchmarks.pooling")


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return (torch.randn(2, 35, heads, HEAD_DIM) for heads in (4, 2, 2))


def turned_by_place(pooling, x, rows, columns):
    rope = pooling.rope
    table = rope.rotation_table((rows, columns), [rope.frequencies(HEAD_DIM)] * 2)
    return rope.rotate(x.transpose(1, 2), table).transpose(1, 2)


def attended(pooling, q, k, v, cells):
    """What attention makes of turned queries and keys on a grid of 7 x 5 tokens."""
    rope = pooling.rope
    table = rope.rotation_table(rope.positions(7, 5), [rope.frequencies(HEAD_DIM)] * 2)
    q, k = (rope.rotate(x, table).transpose(1, 2) for x in (q, k))
    options = pooling.ForwardOptions(rotation=table, cells=cells)
    return pooling.pooling_attention(
        q, k, v.transpose(1, 2), mask=None, scale=0.3, options=options
    ), q


def test_keys_are_averaged_as_they_are_and_turned_to_the_middle(pooling, tensors):
    q, k, v = tensors
    found, q = attended(pooling, q, k, v, pooling.CellsInAttention(7, 5, 2))
    keys, values = (pooling.Cells(7, 5, 2).pooled(x.transpose(1, 2)) for x in (k, v))
    rows, columns = torch.tensor([0.5, 2.5, 4.5, 6.0]), torch.tensor([0.5, 2.5, 4.0])
    keys = turned_by_place(pooling, keys, rows, columns)
    expected = torch.nn.functional.scaled_dot_product_attention(
        q, keys, values, scale=0.3, enable_gqa=True
    )
    assert_close(found, expected)


def test_other_cells_are_left_to_the_layer(pooling, tensors):
    q, k, v = tensors
    found, _ = attended(pooling, q, k, v, pooling.Cells(7, 5, 2))
    whole, _ = attended(pooling, q, k, v, None)
    assert torch.equal(found, whole)


def test_settings_differ_in_their_cells_only(pooling):
    places = torch.arange(8.0)
    step = pooling.Step(
        torch.ones(1), places, places, (8, 8), layers=4, head_dim=HEAD_DIM, device=places.device
    )
    after, before = (
        kind(None, pooling.ContextDrop(2)).forward_options(step) for kind in pooling.POOLED.values()
    )
    assert type(after.cells) is pooling.Cells
    assert type(before.cells) is pooling.CellsInAttention
    assert (
        vars(after.cells) == vars(before.cells)
        and after.dropping.indices == before.dropping.indices
    )


class Drawn:
    """Stands where the demo's Measure stands: latents that differ by the settings alone."""

    def __init__(self, pooling):
        self.before = pooling.PooledBeforeRotation

    def latents(self, *, settings, **run):
        if settings.context_drop is None:
            return torch.zeros(2, 4, 4, 4)
        values = (3.0, 4.0) if isinstance(settings, self.before) else (1.0, 7.0)
        return torch.tensor(values)[:, None, None, None].expand(-1, 4, 4, 4)


def test_each_way_is_compared_with_none_and_with_the_other(pooling, monkeypatch):
    monkeypatch.setattr(pooling, "Measure", lambda demo, count: Drawn(pooling))
    monkeypatch.setattr(pooling.Comparison, "_shares", lambda self, latents: (1.0, 1.0))
    none, *rows = pooling.Comparison(None, count=2).rows()
    assert none.error is None
    assert [(row.factor, row.until, row.pooled) for row in rows] == [
        (factor, until, pooled)
        for factor in (2, 4)
        for until in (0.5, 1.0)
        for pooled in ("after", "before")
    ]
    for after, before in zip(rows[::2], rows[1::2], strict=True):
        assert (after.error, before.error) == pytest.approx((5.0, 12.5**0.5))
        assert (after.closer, before.closer) == (0.5, 0.5)  # each is closer in one of the two
