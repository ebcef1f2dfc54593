"""The caption's share of a step: what is timed is all that a layer does with the caption alone."""

import importlib

import pytest
import torch
from torch.testing import assert_close


@pytest.fixture
def caption(scripts_importable):
    return importlib.import_module("benchmarks.peers.caption")


@pytest.fixture
def models(scripts_importable):
    return importlib.import_module("benchmarks.peers.models")


@pytest.fixture
def network(models):
    config = models.NextDiTConfig(dim=48, layers=1, heads=4, kv_heads=2, caption_dim=20, ffn_dim=64)
    return models.random_next_dit(config, torch.float32)


def outputs(layer, call):
    """What each module without children gives in a call, by name."""
    found = {}
    hooks = [
        module.register_forward_hook(lambda m, args, out, name=name: found.update({name: out}))
        for name, module in layer.named_modules()
        if not list(module.children())
    ]
    call()
    for hook in hooks:
        hook.remove()
    return found


@torch.inference_mode()
def test_all_that_depends_on_the_caption_alone_is_timed_and_nothing_else(caption, models, network):
    given, layer = models.Inputs.of(64, network.config), network.layers[0]

    def step(x, t):
        return outputs(layer, lambda: network(x, t, given.caption, given.mask))

    early, late = step(given.x, given.t), step(given.x + 1, given.t + 0.3)
    same = {name: out for name, out in early.items() if torch.equal(out, late[name])}
    timed = outputs(layer, lambda: caption.caption_work(layer, given.caption))
    assert same.keys() == timed.keys()
    for name, out in same.items():
        assert_close(timed[name], out)


def test_line_has_the_share_as_a_percentage(caption):
    times = (1.0, 2.0, 3.0), (0.01, 0.02, 0.03), (0.005, 0.01, 0.02)
    row = caption.Share(caption.Case(512, "bfloat16"), 3, *times)
    expected = "2.00 (1.00-3.00) | 20.00 (10.00-30.00) | 1.00% (0.50%-2.00%)"
    assert str(row) == f"| 512 px | bfloat16 | {expected} |"
