"""TeaCache: which calls it skips, and that a skipped one adds what the layers added before."""

import math

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.config import NEXT_DIT_2B, NEXT_DIT_2B_GQA
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.options.step_cache import (
    COEFFICIENTS,
    StepCache,
    StepMemory,
    check_fitted,
    estimated_change,
    notice_of,
)
from lumina_next.tests.support.next_dits import TINY, TINY_FLAG_DIT
from lumina_next.tests.support.random_weights import randomize

READ = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
EVERY = StepCache(3.0)


def call(memory, read, added, prompts=("a",), sigma=0.5, last=0.0):
    """One call whose layers would add `added`: the result, and whether they ran."""
    runs = []

    def layers():
        runs.append(1)
        return read + added

    out = memory.call(prompts, sigma, last).tokens(read, read, layers)
    return out, bool(runs)


def test_change_is_the_published_polynomial():
    found = estimated_change(0.11)
    expected = sum(c * 0.11**power for c, power in zip(COEFFICIENTS, (4, 3, 2, 1, 0), strict=True))
    assert found == pytest.approx(expected)
    assert estimated_change(0.1) == pytest.approx(0.0901, abs=1e-3)


def test_change_beyond_what_was_fitted_is_never_small():
    assert min(estimated_change(d) for d in (0.22, 0.5, 1.0, 3.0, math.nan)) == math.inf


def test_first_call_runs_and_the_next_adds_the_same():
    memory = StepMemory(EVERY)
    _, ran = call(memory, READ, 3.0)
    assert ran
    out, ran = call(memory, 1.1 * READ, 7.0)
    assert not ran
    assert_close(out, 1.1 * READ + 3.0)
    assert (memory.calls, memory.skipped) == (2, 1)


def test_changes_add_up_until_the_threshold():
    step = estimated_change(0.1)
    memory, read, ran = StepMemory(StepCache(round(2.5 * step, 2))), READ, []
    for _ in range(7):
        ran.append(call(memory, read, 1.0)[1])
        read = 1.1 * read
    assert ran == [True, False, False, True, False, False, True]


def test_threshold_zero_runs_every_call():
    memory = StepMemory(StepCache(0.0))
    assert [call(memory, READ, 1.0)[1] for _ in range(3)] == [True] * 3


def test_each_prompt_is_compared_with_itself():
    memory = StepMemory(EVERY)
    call(memory, READ, torch.tensor([1.0, 2.0]).view(2, 1, 1), prompts=("a", "b"))
    out, ran = call(memory, READ.flip(0), 9.0, prompts=("b", "a"))
    assert not ran
    assert_close(out, READ.flip(0) + torch.tensor([2.0, 1.0]).view(2, 1, 1))


def test_prompts_of_one_batch_may_come_in_calls_of_their_own():
    memory = StepMemory(EVERY)
    call(memory, READ, torch.tensor([1.0, 2.0]).view(2, 1, 1), prompts=("a", "b"))
    out, ran = call(memory, READ[1:], 9.0, prompts=("b",))
    assert not ran
    assert_close(out, READ[1:] + 2.0)


def test_batch_with_a_new_prompt_runs():
    memory = StepMemory(EVERY)
    call(memory, READ, 1.0)
    assert call(memory, READ, 1.0, prompts=("a", "b"))[1]


def test_prompt_that_changed_most_decides_for_the_batch():
    memory = StepMemory(StepCache(0.3))
    call(memory, READ, 1.0, prompts=("a", "b"))
    later = READ * torch.tensor([1.1, 1.2]).view(2, 1, 1)
    assert call(memory, later, 1.0, prompts=("a", "b"))[1]


def test_another_size_runs():
    memory = StepMemory(EVERY)
    call(memory, READ, 1.0)
    assert call(memory, READ[:, :3], 1.0)[1]


@pytest.mark.parametrize(
    "sigma, last, skips",
    [(0.9, 0.1, False), (0.8, 0.1, True), (0.3, 0.1, True), (0.2, 0.1, False), (0.4, 0.4, False)],
)
def test_calls_outside_its_range_and_in_the_last_step_run(sigma, last, skips):
    memory = StepMemory(StepCache(3.0, start=0.8, end=0.3))
    call(memory, READ, 1.0)
    assert call(memory, 1.1 * READ, 1.0, sigma=sigma, last=last)[1] != skips


def test_range_the_wrong_way_round_is_refused():
    with pytest.raises(ValueError, match=r"got start 0\.2 and end 0\.6"):
        StepCache(0.3, 0.2, 0.6)


def test_setting_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"threshold must be from 0 to 3, got 4"):
        StepCache(4.0)


# --- in the network


@pytest.fixture
def model():
    return randomize(NextDiT(TINY), std=0.2, generator=torch.manual_seed(0)).eval()


def velocity(model, x, t, memory):
    caption = torch.randn(len(x), 7, TINY.caption_dim, generator=torch.Generator().manual_seed(2))
    cached = memory and memory.call(["a"], 0.5, 0.0)
    with torch.inference_mode():
        return model(x, torch.full((len(x),), t), caption, None, ForwardOptions(cached=cached))


def test_computed_call_is_the_models_own(model):
    x = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(1))
    found = velocity(model, x, 0.4, StepMemory(EVERY))
    assert torch.equal(found, velocity(model, x, 0.4, None))


def test_first_layer_reads_what_is_compared(model):
    seen = []
    model.layers[0].attention.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    memory = StepMemory(EVERY)
    velocity(model, torch.randn(1, 4, 8, 6), 0.4, memory)
    assert_close(memory.branches["a"].read, seen[0])


def test_skipped_call_still_follows_time_and_latent(model):
    x = torch.randn(1, 4, 8, 6, generator=torch.Generator().manual_seed(1))
    memory = StepMemory(EVERY)
    velocity(model, x, 0.4, memory)
    near = velocity(model, x + 0.02, 0.42, memory)
    assert memory.skipped == 1
    expected = velocity(model, x + 0.02, 0.42, None)
    assert 0 < (near - expected).norm() < 0.2 * expected.norm()


# --- models that the coefficients were not fitted to


def test_models_of_the_size_are_fitted():
    assert notice_of(NEXT_DIT_2B) is None and notice_of(NEXT_DIT_2B_GQA) is None


def test_other_size_is_said():
    assert "This MODEL has 2 layers and width 32: how much" in notice_of(TINY)


def test_other_architecture_is_refused():
    check_fitted(TINY)
    with pytest.raises(ValueError, match="this MODEL is a Flag-DiT. Use EasyCache"):
        check_fitted(TINY_FLAG_DIT)
