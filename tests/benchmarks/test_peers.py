"""The comparison with other ways to run the model, on a tiny one: that all do the same work."""

import importlib
import json

import pytest
import torch
from torch.testing import assert_close


@pytest.fixture
def models(scripts_importable):
    return importlib.import_module("benchmarks.peers.models")


@pytest.fixture
def tiny(models):
    return models.NextDiTConfig(dim=48, layers=2, heads=4, kv_heads=2, caption_dim=20, ffn_dim=256)


@pytest.mark.parametrize("is_masked", [False, True])
def test_released_attention_is_the_same_as_with_shared_keys(models, is_masked):
    layers = importlib.import_module("lumina.model.layers")
    q, k, v = (torch.randn(2, heads, 9, 8) for heads in (4, 2, 2))
    mask = torch.zeros(2, 1, 1, 9) if is_masked else None
    given = {"mask": mask, "scale": 0.4}
    expected = layers.scaled_dot_product_attention(q, k, v, options=None, **given)
    assert_close(models.attention_as_released(q, k, v, **given), expected)


@pytest.mark.parametrize("name", ["diffusers", "released"])
def test_each_way_gives_noise_for_both_prompts(models, tiny, name):
    inputs = models.Inputs.of(64, tiny)
    with torch.inference_mode():
        out = models.CONTENDERS[name](tiny, torch.float32, inputs)()
    out = out[0] if isinstance(out, tuple) else out
    assert len(out) == 2 and out.shape[-2:] == inputs.x.shape[-2:]


def test_rounds_time_every_way_and_stop_in_time(scripts_importable):
    steps = importlib.import_module("benchmarks.peers.steps")
    calls = {"ours": lambda: sum(range(1000)), "other": lambda: sum(range(2000))}
    rounds = list(steps.timed_rounds(calls, 1, repeats=3, minutes=1))
    assert len(rounds) == 3 and all(set(seconds) == set(calls) for seconds in rounds)
    assert len(list(steps.timed_rounds(calls, 1, repeats=3, minutes=0))) == 1
    assert steps.spread([3.0, 1.0, 2.0]) == (1.0, 2.0, 3.0)


def test_ratios_are_between_ways_of_the_same_round(scripts_importable):
    steps = importlib.import_module("benchmarks.peers.steps")
    rounds = [{"ours": 1.0, "other": 2.0}, {"ours": 6.0, "other": 3.0}, {"ours": 4.0, "other": 4.0}]
    assert steps.beside(rounds, "other", "ours") == ((2.0, 3.0, 4.0), (0.5, 1.0, 2.0))


def test_cases_that_were_not_asked_for_stay_in_the_file(scripts_importable, tmp_path):
    peers = importlib.import_module("benchmarks.peers.__main__")
    path = tmp_path / "peers.json"

    def rows(seconds, *sizes):
        return [{"case": {"size_px": size}, "seconds": seconds} for size in sizes]

    peers.save(path, "import", {"median": 1.0})
    peers.save(path, "steps", rows(1, 512, 1024))
    peers.save(path, "steps", rows(2, 1024, 2048))
    content = json.loads(path.read_text())
    assert content["steps"]["found"] == [*rows(1, 512), *rows(2, 1024, 2048)]
    peers.save(path, "import", {"median": 2.0})
    assert json.loads(path.read_text())["import"]["found"] == {"median": 2.0}
    path.write_text(path.read_text().replace(torch.__version__, "another torch"))
    peers.save(path, "steps", rows(3, 512))  # not to be mixed with what that one did
    assert json.loads(path.read_text())["steps"]["found"] == rows(3, 512)


def test_way_that_needs_too_much_memory_is_told_from_a_broken_one(scripts_importable):
    steps = importlib.import_module("benchmarks.peers.steps")
    assert steps.has_memory(lambda: torch.empty(10))
    assert not steps.has_memory(lambda: torch.empty(2**59))
    with pytest.raises(RuntimeError, match="inplace|size"):
        steps.has_memory(lambda: torch.zeros(2) + torch.zeros(3))
