"""ComfyUI's own prompt nodes with this CLIP and MODEL."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.tests.support.host_nodes import encode, node
from lumina_next.tests.support.native_graphs import OTHER, advanced, differs, guess, sample
from lumina_next.tests.support.tiny import POSITIVE, assert_same_picture

# The tokenizer knows "under" together with the space before it, as Gemma's does most words.
UNDER = "a dog (under:{}) the mat"


def test_weighted_word_keeps_the_space_in_its_token(clip):
    def pieces(text):
        (tokens,) = clip.tokenize(text).values()
        vocabulary = clip.tokenizer.gemma_2b.inv_vocab
        return [(vocabulary[token], weight) for token, weight in tokens[0]]

    plain, weighted = pieces("a dog under the mat"), pieces(UNDER.format(1.3))
    assert ("\u2581under", 1.0) in plain
    expected = [(piece, 1.3 if "under" in piece else 1.0) for piece, _ in plain]
    assert weighted == expected


def test_weight_1_is_no_weight(clip):
    plain, weighted = encode(clip, "a dog under the mat"), encode(clip, UNDER.format(1.0))
    assert_close(weighted, plain, rtol=0, atol=0)


def test_weight_changes_its_own_tokens_only(clip):
    plain, _ = encode(clip, "a dog under the mat")
    weighted, _ = encode(clip, UNDER.format(1.3))
    (tokens,) = clip.tokenize(UNDER.format(1.3)).values()
    changed = (plain - weighted).abs().amax(-1)[0] > 1e-4
    assert changed.tolist() == [weight != 1 for _, weight in tokens[0]]


def test_combined_prompts_are_averaged(model):
    both = node("ConditioningCombine", conditioning_1=POSITIVE, conditioning_2=OTHER)
    assert_same_picture(guess(model, both), (guess(model, POSITIVE) + guess(model, OTHER)) / 2)


def test_concatenated_prompts_are_one_longer_prompt(model):
    joined = node("ConditioningConcat", conditioning_to=POSITIVE, conditioning_from=OTHER)
    features = torch.cat([POSITIVE[0][0], OTHER[0][0]], dim=1)
    whole = [[features, {"attention_mask": torch.ones(1, 22, dtype=torch.long)}]]
    assert_same_picture(guess(model, joined), guess(model, whole))
    assert differs(guess(model, joined), guess(model, POSITIVE))


@pytest.mark.parametrize("strength", [1.0, 0.0, 0.25])
def test_averaged_prompts_lie_between(model, strength):
    mixed = node(
        "ConditioningAverage", conditioning_to=POSITIVE, conditioning_from=OTHER,
        conditioning_to_strength=strength,
    )  # fmt: skip
    features = strength * POSITIVE[0][0] + (1 - strength) * OTHER[0][0]
    assert_same_picture(guess(model, mixed), guess(model, [[features, POSITIVE[0][1]]]))


def test_zeroed_prompt_is_one_of_zeros(model):
    zeroed = node("ConditioningZeroOut", conditioning=POSITIVE)
    zeros = [[torch.zeros_like(POSITIVE[0][0]), POSITIVE[0][1]]]
    assert_close(guess(model, zeroed), guess(model, zeros), rtol=0, atol=0)
    assert differs(guess(model, zeroed), guess(model))


def test_area_prompt_acts_inside_its_area(model):
    area = node(
        "ConditioningSetArea", conditioning=OTHER, width=64, height=72, x=32, y=40, strength=1.0
    )
    base, found = guess(model), guess(model, [*POSITIVE, *area])
    inside = torch.zeros(16, 12, dtype=torch.bool)
    inside[5:14, 4:12] = True
    assert_same_picture(found[..., ~inside], base[..., ~inside])
    assert differs(found[..., inside], base[..., inside])


def test_masked_prompts_share_the_picture(model):
    left = torch.zeros(1, 128, 96)
    left[..., :48] = 1

    def masked(conditioning, mask):
        return node(
            "ConditioningSetMask", conditioning=conditioning, mask=mask, strength=1.0,
            set_cond_area="default",
        )  # fmt: skip

    found = guess(model, [*masked(POSITIVE, left), *masked(OTHER, 1 - left)])
    assert_same_picture(found[..., :6], guess(model, POSITIVE)[..., :6])
    assert_same_picture(found[..., 6:], guess(model, OTHER)[..., 6:])


def test_prompt_of_a_time_range_acts_in_it(model):
    early = node("ConditioningSetTimestepRange", conditioning=POSITIVE, start=0.0, end=0.5)
    late = node("ConditioningSetTimestepRange", conditioning=OTHER, start=0.5, end=1.0)
    half = advanced(model, 0, 2, noise=True, leftover=True)
    expected = advanced(model, 2, 4, half, OTHER, noise=False, leftover=False)["samples"]
    assert_same_picture(sample(model, [*early, *late], steps=4), expected)
    assert differs(sample(model, steps=4), expected)
