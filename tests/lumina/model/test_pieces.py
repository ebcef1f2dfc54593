"""Working on some tokens at a time gives what working on all of them gives."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.config import FlagDiTConfig, NextDiTConfig
from lumina_next.lumina.model.flag_dit import FlagDiT
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.lumina.model.pieces import in_pieces
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.tests.support.random_weights import randomize

SIZES = dict(dim=32, layers=2, heads=4, kv_heads=2, caption_dim=12, ffn_dim=40)


@pytest.mark.parametrize(("tokens_at_once", "pieces"), [(None, 1), (22, 1), (8, 3), (1, 11)])
def test_function_gets_pieces_of_every_tensor(tokens_at_once, pieces):
    x, table, seen = torch.randn(2, 11, 3), torch.randn(1, 11, 3), []

    def weigh(x, table):
        seen.append(x.shape[1])
        assert table.shape[1] == x.shape[1]
        return (x * table).sum(dim=-1)

    assert_close(
        in_pieces(weigh, tokens_at_once, x, table), (x * table).sum(dim=-1), rtol=0, atol=0
    )
    assert len(seen) == pieces and sum(seen) == 11


def test_compiled_code_takes_all_tokens():
    x, seen = torch.randn(1, 8, 3), []

    def double(x):
        seen.append(x.shape[1])
        return 2 * x

    compiled = torch.compile(lambda x: in_pieces(double, 2, x), backend="eager")
    assert_close(compiled(x), 2 * x)
    assert seen == [8]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [(8, 12), (6, 10)], ids=["even", "odd"])
@pytest.mark.parametrize("network", [(NextDiT, NextDiTConfig), (FlagDiT, FlagDiTConfig)])
def test_networks_give_the_same_in_pieces(network, size, batch, monkeypatch):
    build, config = network
    model = build(config(**SIZES)).eval().requires_grad_(False)
    randomize(model)
    caption, mask = torch.randn(batch, 5, 12), torch.ones(batch, 5)
    mask[-1, 3:] = 0
    given = torch.randn(batch, 4, *size), torch.full((batch,), 0.3), caption, mask
    rows, feed = [], model.layers[0].feed_forward.forward
    monkeypatch.setattr(
        model.layers[0].feed_forward, "forward", lambda x: rows.append(x.shape[1]) or feed(x)
    )
    whole = model(*given)
    in_parts = model(*given, ForwardOptions(tokens_per_norm=3, tokens_per_product=7))
    assert_close(in_parts, whole)
    assert rows[0] == sum(rows[1:]) and len(rows) > 2
