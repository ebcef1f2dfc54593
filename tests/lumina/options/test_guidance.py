"""What follows cfg: which channels, between which noise levels, within which bounds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.lumina.options.guidance import (
    Guidance,
    on_channels,
    renormalized,
    rescaled,
)


def velocities(batch=3):
    torch.manual_seed(0)
    return 3 * torch.randn(batch, 4, 5, 6), torch.randn(batch, 4, 5, 6)


def length(x):
    return x.flatten(1).norm(dim=1)


def test_channels_beyond_the_count_are_the_conditional():
    guided, conditional = velocities()
    found = on_channels(guided, conditional, 3)
    assert torch.equal(found[:, :3], guided[:, :3])
    assert torch.equal(found[:, 3:], conditional[:, 3:])


@given(st.floats(0.1, 5))
@settings(max_examples=20, deadline=None)
def test_renorm_bounds_the_length_and_keeps_the_direction(limit):
    guided, conditional = velocities()
    found = renormalized(guided, conditional, limit)
    longest = limit * length(conditional)
    torch.testing.assert_close(length(found), torch.minimum(length(guided), longest))
    direction = (found * guided).flatten(1).sum(1) / (length(found) * length(guided))
    torch.testing.assert_close(direction, torch.ones(3))


def test_rescale_brings_back_the_spread():
    guided, conditional = velocities()
    spread = rescaled(guided, conditional, 1.0).std(dim=(1, 2, 3))
    torch.testing.assert_close(spread, conditional.std(dim=(1, 2, 3)))
    assert torch.equal(rescaled(guided, conditional, 0.0), guided)


def test_pictures_of_a_batch_do_not_see_each_other():
    guided, conditional = velocities()
    for rule in (renormalized, rescaled):
        alone = [rule(guided[i : i + 1], conditional[i : i + 1], 0.7) for i in range(3)]
        torch.testing.assert_close(rule(guided, conditional, 0.7), torch.cat(alone))


def test_no_guidance_at_all_stays_finite():
    zeros = torch.zeros(2, 4, 3, 3)
    assert renormalized(zeros, zeros, 1.0).eq(0).all()
    assert rescaled(zeros, zeros, 1.0).eq(0).all()


def test_default_guides_three_channels_at_every_sigma():
    guided, conditional = velocities()
    x, sigma = torch.zeros_like(guided), torch.full((3,), 0.5)
    found = Guidance().bounded(guided, conditional, x, sigma)
    assert torch.equal(found, on_channels(guided, conditional, 3))
    assert Guidance().acts_at(1.0) and Guidance().acts_at(0.0)


def test_renorm_bounds_what_the_channels_leave():
    (guided, conditional), sigma = velocities(), torch.tensor([0.9, 0.5, 0.1])
    x = torch.randn_like(guided)
    found = Guidance(renorm=1.0).bounded(guided, conditional, x, sigma)
    scale = sigma.reshape(-1, 1, 1, 1)
    longest = length((conditional - x) / scale)
    assert (length((found - x) / scale) <= longest * 1.0001).all()


def test_first_steps_leave_the_noise():
    sigmas = torch.tensor([1.0, 0.8, 0.3, 0.0])
    skipped = [Guidance(zero_steps=2).leaves_noise(sigma[None], sigmas) for sigma in sigmas]
    assert skipped == [True, True, False, False]
    assert not Guidance().leaves_noise(sigmas[:1], sigmas)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": "some"}, 'got "some"'),
        ({"start": 0.2, "end": 0.8}, "start 0.2 and end 0.8"),
        ({"renorm": -1.0}, "renorm must be from 0"),
    ],
)
def test_settings_that_say_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Guidance(**settings)
