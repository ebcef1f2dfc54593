"""The timing script of regions on a tiny model: what it runs, and what it computes."""

import importlib
import json

import pytest
import torch


@pytest.fixture
def benchmark():
    return importlib.import_module("benchmarks.regions")


@pytest.fixture
def run(benchmark):
    config = importlib.import_module("lumina.config").NextDiTConfig(
        dim=48, layers=2, heads=4, kv_heads=2, caption_dim=20, ffn_dim=64
    )
    model = benchmark.TimedNextDiT(config, torch.device("cpu"), torch.bfloat16)
    return benchmark.Run(model, size_px=128)


@pytest.mark.parametrize("cells, regions", [(None, 0), ((1, 2), 2), ((3, 3), 9)])
def test_every_region_is_read_for_itself(benchmark, run, cells, regions, monkeypatch):
    context_drop = importlib.import_module("benchmarks.context_drop")
    attention, seen = context_drop.scaled_dot_product_attention, []

    def listen(q, k, v, *, mask, **settings):
        seen.append(k.shape[2])
        return attention(q, k, v, mask=mask, **settings)

    monkeypatch.setattr(context_drop, "scaled_dot_product_attention", listen)
    run.timed(cells)
    assert seen == 2 * [64, benchmark.CAPTION_TOKENS, *[benchmark.REGION_TOKENS] * regions]


def test_rows_compare_with_one_prompt(benchmark, run, monkeypatch):
    costs = {None: 1.0, **{cells: 1 + 0.1 * cells[0] * cells[1] for cells in benchmark.GRIDS}}
    monkeypatch.setattr(
        run, "timed", lambda cells: benchmark.Pass(2 + costs[cells], costs[cells], 0.5)
    )
    found = list(benchmark.rows(run, repeats=2, layers=4))
    assert [row.regions for row in found] == [0, 1, 2, 4, 9, 16]
    assert found[0].layer == found[0].step == 1
    assert found[3].layer == pytest.approx(1.4)
    assert found[3].step == pytest.approx((2 + 2 * 1.4) / 4)


def test_script_writes_its_rows(benchmark, tmp_path, monkeypatch, capsys):
    config = benchmark.NEXT_DIT_2B_GQA
    small = importlib.import_module("dataclasses").replace(
        config, dim=48, heads=4, kv_heads=2, caption_dim=20, ffn_dim=64
    )
    monkeypatch.setattr(benchmark, "NEXT_DIT_2B_GQA", small)
    path = tmp_path / "regions.json"
    benchmark.main(["--sizes", "128", "--repeats", "1", "--threads", "1", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 6 and all(row["layer_seconds"] > 0 for row in rows)
    assert capsys.readouterr().out.count("\n| 128 px") == 6
