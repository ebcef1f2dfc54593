"""The timing script on a tiny model: what it counts, and what it computes from what it measured."""

import importlib
import json

import pytest
import torch


@pytest.fixture
def benchmark():
    return importlib.import_module("benchmarks.context_drop")


@pytest.fixture
def tiny(benchmark):
    return benchmark.NextDiTConfig(
        dim=48, layers=2, heads=4, kv_heads=2, caption_dim=20, ffn_dim=64
    )


@pytest.fixture
def run(benchmark, tiny):
    model = benchmark.TimedNextDiT(tiny, torch.device("cpu"), torch.bfloat16)
    return benchmark.Run(model, size_px=128, batch=2)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_attention_is_part_of_the_layers_and_those_of_the_pass(benchmark, tiny, device):
    model = benchmark.TimedNextDiT(tiny, torch.device(device), torch.bfloat16)
    timed = benchmark.Run(model, size_px=128, batch=2).timed(2)
    assert 0 < timed.self_attention < timed.layers < timed.whole


@pytest.mark.parametrize("factor, keys", [(1, 64), (2, 16), (4, 4)])
def test_every_layer_averages_its_keys(benchmark, run, factor, keys, monkeypatch):
    seen = []
    attention = benchmark.scaled_dot_product_attention

    def listen(q, k, v, *, mask, **settings):
        seen.append(k.shape[2])
        return attention(q, k, v, mask=mask, **settings)

    monkeypatch.setattr(benchmark, "scaled_dot_product_attention", listen)
    run.timed(factor)
    assert seen == [keys, benchmark.CAPTION_TOKENS] * 2


def test_rounds_stop_where_the_next_would_take_too_long(run):
    assert len(run.rounds(3, minutes=1)) == 3
    assert len(run.rounds(3, minutes=0)) == 1


def test_ratios_are_taken_within_a_round(benchmark, run):
    timed = benchmark.Pass
    rounds = [
        {1: timed(3.0, 2.0, 1.0), 2: timed(2.0, 1.0, 0.4), 4: timed(1.5, 0.5, 0.1)},
        {1: timed(6.0, 4.0, 2.0), 2: timed(5.0, 3.0, 1.2), 4: timed(3.0, 1.0, 0.2)},
    ]
    usual, halved, _ = benchmark.rows(run, rounds, layers=4)
    assert usual.step == usual.layer == benchmark.Ratio(1, 1, 1) and usual.run == 1
    assert halved.layer == benchmark.Ratio(0.625, 0.5, 0.75)
    # Two layers were timed and the model has four: 2 + 1 over 3 + 2, and 5 + 3 over 6 + 4.
    assert halved.step == benchmark.Ratio(pytest.approx(0.7), 0.6, 0.8)
    assert halved.layer_seconds == 1 and halved.attention_share == pytest.approx(0.4)


def test_run_is_the_mean_of_its_steps(benchmark):
    drop, layers = benchmark.ContextDrop(2, until=0.5), 24
    schedule = benchmark.SCHEDULES[benchmark.SCHEDULE]
    dropping = [len(drop.layers(1 - s, layers)) for s in schedule(benchmark.STEPS)[:-1].tolist()]
    assert len(dropping) == benchmark.STEPS and dropping[0] == layers and dropping[-1] == 0
    share = benchmark.dropping_share(drop, layers)
    # Layers of one second, a quarter of it when they drop, and nothing around them.
    seconds = sum(0.25 * n + (layers - n) for n in dropping)
    assert 1 - share * (1 - 0.25) == pytest.approx(seconds / (layers * benchmark.STEPS))


def test_script_writes_its_table(benchmark, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "NEXT_DIT_2B_GQA", tiny)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    path = tmp_path / "times.json"
    options = ["--sizes", "64", "128", "--repeats", "2", "--dtype", "float32", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["context_drop", *options])
    benchmark.main()
    written = json.loads(path.read_text())
    assert [(r["size_px"], r["factor"]) for r in written["rows"]] == [
        (size_px, factor) for size_px in (64, 128) for factor in (1, 2, 4)
    ]
    assert written["layers_timed"] == 1 and written["layers"] == 2 and written["device"]
    assert capsys.readouterr().out.count("\n| ") == 2 + 6
