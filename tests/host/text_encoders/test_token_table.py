"""The token table: rows for a prompt, scores for the next token, in every dtype of storage."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

ROWS, WIDTH = 10_000, 24
TOKENS = torch.tensor([[3, 9_999, 3]])
STORED = [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float32]


@pytest.fixture(params=STORED, ids=str)
def embedding(request, host):
    import comfy.ops

    table = comfy.ops.manual_cast.Embedding(ROWS, WIDTH, dtype=request.param)
    values = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    table.weight = torch.nn.Parameter(values.to(request.param), requires_grad=False)
    return table


@pytest.fixture(params=[False, True], ids=["as stored", "patched"])
def weight(request, embedding):
    """The weight to expect in float32: as it is stored, or what a LoRA makes of it."""
    weight = embedding.weight.float()
    if request.param:
        embedding.weight_function = [lambda weight: 2 * weight + 1]
        weight = 2 * weight + 1
    return weight


def test_rows_are_those_of_the_widened_table(embedding, weight):
    from lumina_next.host.text_encoders.token_table import TokenTable

    rows = TokenTable(embedding)(TOKENS, out_dtype=torch.float32)
    assert rows.dtype == torch.float32
    tolerance = 0.01 if embedding.weight.dtype == torch.bfloat16 else 0  # patched as it is stored
    assert_close(rows, weight[TOKENS], rtol=tolerance, atol=0)


def test_scores_in_pieces_are_those_of_the_widened_table(embedding, weight):
    from lumina_next.host.text_encoders.token_table import PIECE_ROWS, casting_tied_head

    assert ROWS > 2 * PIECE_ROWS
    state = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1))
    assert_close(casting_tied_head(embedding, state), F.linear(state, weight))


@pytest.fixture
def scaled(host):
    """A table in 8 bits with one scale, as in a file of scaled fp8, and what it stands for."""
    import comfy.ops

    operations = comfy.ops.mixed_precision_ops({}, torch.float32)
    if operations.Embedding is comfy.ops.manual_cast.Embedding:
        pytest.skip("this ComfyUI reads no scaled table")
    values = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    scale = values.abs().max() / 448
    stored = (values / scale).to(torch.float8_e4m3fn)
    kind = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
    table = operations.Embedding(ROWS, WIDTH, dtype=torch.float32)
    table.load_state_dict({"weight": stored, "weight_scale": scale, "comfy_quant": kind})
    return table, stored.float() * scale


def test_scores_by_a_scaled_table_never_widen_it_whole(scaled, monkeypatch):
    from comfy.quant_ops import TensorCoreFP8Layout

    from lumina_next.host.text_encoders.token_table import casting_tied_head

    def widen(*arguments, **settings):
        raise AssertionError("the whole table was widened")

    table, values = scaled
    monkeypatch.setattr(TensorCoreFP8Layout, "dequantize", widen)
    state = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1))
    assert_close(casting_tied_head(table, state), F.linear(state, values))


def test_scores_by_a_scaled_table_with_a_lora_have_the_lora(scaled):
    from lumina_next.host.text_encoders.token_table import casting_tied_head

    table, values = scaled
    table.weight_function = [lambda weight: 2 * weight + 1]
    state = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1))
    assert_close(casting_tied_head(table, state), F.linear(state, 2 * values + 1))
