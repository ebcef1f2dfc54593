"""Regions through ComfyUI: their pictures are those of plain torch, in one pass a step."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.options.regions import Box, Region
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import OTHER, differs, guess, sample
from lumina_next.tests.support.region_nodes import (
    FIRST,
    HALVES,
    LEFT,
    RIGHT,
    SECOND,
    by_hand,
    left_mask,
    region,
    regions,
)
from lumina_next.tests.support.tiny import (
    NEGATIVE,
    POSITIVE,
    STEPS,
    assert_same_picture,
    count_forwards,
    ksampler,
)

PROMPTS = POSITIVE, FIRST, SECOND


@pytest.fixture(autouse=True)
def nodes_are_there(host):
    return host


def halves(height=16, width=12):
    left = left_mask(height, width)
    return torch.stack([left, 1 - left], dim=1)


# --- pictures


def test_boxes_draw_what_plain_torch_draws(model):
    found = ksampler(model, positive=regions(*HALVES))
    assert_same_picture(found, by_hand(model, halves(), PROMPTS))
    assert differs(found, ksampler(model))


@pytest.mark.parametrize("size", [(128, 96), (16, 12), (64, 640)])
def test_mask_of_any_size_is_the_box(model, size):
    left = left_mask(*size)
    prompt = regions((FIRST, {"mask": left}), (SECOND, {"mask": 1 - left}))
    assert_same_picture(
        ksampler(model, positive=prompt), ksampler(model, positive=regions(*HALVES))
    )


def test_mask_without_a_batch_axis_is_taken(model):
    prompt = regions((FIRST, {"mask": left_mask()[0]}))
    expected = regions((FIRST, LEFT))
    assert_same_picture(ksampler(model, positive=prompt), ksampler(model, positive=expected))


def test_prompt_and_negative_prompt_share_one_pass(model):
    counted, seen = count_forwards(model)
    ksampler(counted, positive=regions(*HALVES))
    assert seen == [2] * STEPS


def test_regions_in_the_negative_prompt(model):
    """As the released code: time and the global prompt scale both, and each is read alone."""
    negative = regions((NEGATIVE, {}), global_prompt=POSITIVE)
    counted, seen = count_forwards(model)
    found = ksampler(counted, positive=regions(*HALVES), negative=negative)
    assert seen == [2] * STEPS
    assert differs(found, ksampler(model, positive=regions(*HALVES)))


def test_time_range_gives_the_place_back_to_the_global_prompt(model):
    prompt = regions((FIRST, {**LEFT, "end": 0.5}), (SECOND, {**RIGHT, "start": 0.5}))

    def weights(t):  # the steps are at t 0, 0.4995 and 0.999
        early, late = halves().unbind(1)
        return torch.stack([early * (t < 0.5), late * (t >= 0.5)], dim=1)

    assert_same_picture(ksampler(model, positive=prompt), by_hand(model, weights, PROMPTS))


@pytest.mark.parametrize("change", [{"weight": 0.5}, {"feather": 0.5}])
def test_weight_and_feather_reach_the_model(model, change):
    prompt = regions((FIRST, LEFT | change), (SECOND, RIGHT))
    left = Region(Box(0, 0, 0.5, 1), **change).weights(16, 12)
    weights = torch.stack([left, 1 - left_mask(16, 12)], dim=1)
    assert not torch.equal(weights, halves())
    assert_same_picture(ksampler(model, positive=prompt), by_hand(model, weights, PROMPTS))


def test_combined_prompt_shares_its_region(model):
    both = node("ConditioningCombine", conditioning_1=FIRST, conditioning_2=SECOND)
    everywhere = torch.full((1, 2, 16, 12), 0.5)
    found = ksampler(model, positive=regions((both, {})))
    assert_same_picture(found, by_hand(model, everywhere, PROMPTS))


# --- with ComfyUI's own nodes


def test_area_sees_its_part_of_the_regions(model):
    """An area over the left half, at full strength there, is drawn by the left region's prompt."""
    base = guess(model, OTHER)
    area = node(
        "ConditioningSetArea", conditioning=regions(*HALVES), width=48, height=128, x=48, y=0,
        strength=1.0,
    )  # fmt: skip
    alone = regions((SECOND, {}))
    expected = node(
        "ConditioningSetArea", conditioning=alone, width=48, height=128, x=48, y=0, strength=1.0
    )
    found = guess(model, [*OTHER, *area])
    assert_same_picture(found, guess(model, [*OTHER, *expected]))
    assert differs(found, base)


def test_masked_combined_and_timed_as_every_prompt(model):
    prompt = regions(*HALVES)
    masked = node(
        "ConditioningSetMask", conditioning=prompt, mask=left_mask(), strength=1.0,
        set_cond_area="default",
    )  # fmt: skip
    timed = node("ConditioningSetTimestepRange", conditioning=prompt, start=0.0, end=0.5)
    late = node("ConditioningSetTimestepRange", conditioning=OTHER, start=0.5, end=1.0)
    found = sample(model, [*masked, *OTHER]), sample(model, [*timed, *late])
    for picture in found:
        assert picture.isfinite().all() and differs(picture, sample(model, OTHER))
    assert_same_picture(guess(model, [*timed, *late]), guess(model, prompt))


def test_zeroed_prompt_says_nothing_in_its_regions_either(model):
    zeroed = node("ConditioningZeroOut", conditioning=regions(*HALVES))
    nothing = node("ConditioningZeroOut", conditioning=POSITIVE)
    assert_close(guess(model, zeroed), guess(model, nothing), rtol=0, atol=0)


def test_each_picture_of_a_batch_has_its_own_mask(model):
    left = left_mask()
    prompt = regions((FIRST, {"mask": torch.cat([left, 1 - left])}))
    latent = {"samples": torch.zeros(2, 4, 16, 12), "batch_index": [0, 0]}  # of one noise
    first, second = sample(model, prompt, latent=latent)
    assert_same_picture(first[None], sample(model, regions((FIRST, {"mask": left}))))
    assert_same_picture(second[None], sample(model, regions((FIRST, {"mask": 1 - left}))))


def test_each_picture_of_a_batch_has_its_own_prompts(model):
    features = torch.cat([FIRST[0][0], FIRST[0][0].flip(1) + 1])
    batch = [[features, {"attention_mask": torch.ones(2, 7, dtype=torch.long)}]]
    latent = {"samples": torch.zeros(2, 4, 16, 12), "batch_index": [0, 0]}
    found = sample(model, regions((batch, LEFT)), latent=latent)
    for row, picture in enumerate(found):
        own = [[features[row : row + 1], {}]]
        assert_same_picture(picture[None], sample(model, regions((own, LEFT))))


def test_odd_sizes_are_drawn(model):
    found = sample(model, regions(*HALVES), latent={"samples": torch.zeros(1, 4, 15, 11)})
    assert found.shape == (1, 4, 15, 11) and found.isfinite().all()


# --- bad input


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x": 1.0}, "outside the picture"),
        ({"width": 0.0}, "width must be from"),
        ({"weight": -1}, "weight must be from"),
        ({"start": 0.7, "end": 0.3}, "start must be before its end"),
        ({"mask": torch.zeros(1, 8, 8)}, "mask is empty"),
        ({"mask": "left"}, '"mask" needs a MASK and was given the text "left"'),
    ],
)
def test_region_that_can_not_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        region(FIRST, **changes)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ([], "empty CONDITIONING"),
        ([[None, {}]], "no encoded prompt"),
        ("a cat", 'needs a CONDITIONING and was given the text "a cat"'),
        ([[FIRST[0][0], {"area": (1, 1, 0, 0)}]], "prompt has an area"),
        ([[FIRST[0][0], {"mask": left_mask()}]], "prompt has a mask"),
        ([[FIRST[0][0], {"start_percent": 0.5}]], "prompt has a time range"),
    ],
)
def test_prompt_that_fits_no_region_is_refused(prompt, said):
    with pytest.raises(ValueError, match=said):
        region(prompt)


def test_regions_within_regions_are_refused():
    with pytest.raises(ValueError, match="regions of its own"):
        region(regions(*HALVES))


def test_more_regions_than_the_largest_grid_has_are_refused():
    chained = region(FIRST) * 256
    with pytest.raises(ValueError, match="257 regions; a picture can have 256"):
        region(FIRST, chained)


@pytest.mark.parametrize("nothing", [None, 3, [], ()])
def test_regions_without_a_region_say_so(nothing):
    with pytest.raises(ValueError, match="Lumina-Next Region"):
        node("LuminaNextRegions", global_prompt=POSITIVE, regions=nothing)


def test_prompts_of_two_text_encoders_are_named():
    wide = [[torch.randn(1, 5, 32), {}]]
    with pytest.raises(
        ValueError, match="region 2 has 32 features per token, the global prompt 24"
    ):
        regions((FIRST, LEFT), (wide, RIGHT))


def test_prompts_of_a_text_encoder_that_is_not_the_models_are_refused(model):
    wide = [[torch.randn(1, 5, 32), {}]]
    prompt = regions((wide, LEFT), global_prompt=wide)
    with pytest.raises(ValueError, match="gives 32 features per token"):
        ksampler(model, positive=prompt)


def test_damaged_features_of_a_region_are_refused(model):
    broken = [[torch.full((1, 5, 24), torch.nan), {}]]
    with pytest.raises(ValueError, match="CONDITIONING"):
        ksampler(model, positive=regions((broken, LEFT)))
