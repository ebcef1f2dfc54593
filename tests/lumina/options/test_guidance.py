import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.lumina.options.guidance import on_channels, renormalized, rescaled


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
