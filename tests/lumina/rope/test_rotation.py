"""Frequencies, positions and rotations of RoPE in two dimensions."""

import itertools
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.lumina.rope import rotation


def table(height, width, head_dim, **scaling):
    frequency = rotation.frequencies(head_dim, **scaling)
    return rotation.rotation_table(rotation.positions(height, width), [frequency] * 2)


def test_frequencies_of_the_2b_are_the_released_ones():
    found = rotation.frequencies(72)[[0, 1, 2, 8, 17]]
    expected = torch.tensor([1.0, 0.59948425, 0.35938137, 0.01668101, 0.00016681])
    torch.testing.assert_close(found, expected)


def test_ntk_frequencies_of_the_2b_are_the_released_ones():
    found = rotation.frequencies(72, ntk=2.0)[[1, 2, 8, 17]]
    torch.testing.assert_close(
        found, torch.tensor([0.57683804, 0.33274212, 0.01225832, 0.00008668])
    )


def test_linear_scaling_stretches_every_wavelength():
    torch.testing.assert_close(rotation.frequencies(72, linear=2.0), rotation.frequencies(72) / 2)


def test_head_size_must_be_a_multiple_of_four():
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        rotation.frequencies(6)


@pytest.mark.parametrize("scaling", [{}, {"linear": 1.5}, {"ntk": 2.0}])
def test_rotation_is_diffusers(scaling):
    from diffusers.models.embeddings import apply_rotary_emb, get_2d_rotary_pos_embed_lumina

    factors = {"linear_factor": scaling.get("linear", 1.0), "ntk_factor": scaling.get("ntk", 1.0)}
    angles = get_2d_rotary_pos_embed_lumina(24, 6, 5, **factors)
    x = torch.randn(2, 30, 3, 24)
    expected = apply_rotary_emb(x, angles.flatten(0, 1)[None], use_real=False)
    torch.testing.assert_close(rotation.rotate(x, table(6, 5, 24, **scaling)), expected)


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([4, 8, 24]))
@settings(max_examples=20, deadline=None)
def test_rotation_keeps_length(height, width, head_dim):
    x = torch.randn(1, height * width, 2, head_dim)
    turned = rotation.rotate(x, table(height, width, head_dim))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_first_token_is_not_turned():
    x = torch.randn(1, 12, 2, 8)
    turned = rotation.rotate(x, table(3, 4, 8))
    torch.testing.assert_close(turned[:, 0], x[:, 0])


@given(st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=16, deadline=None)
def test_products_depend_only_on_the_offset(rows, columns):
    q, k = torch.randn(2, 1, 1, 1, 24).expand(2, 1, 64, 1, 24)
    turned = table(8, 8, 24)
    q, k = rotation.rotate(q, turned)[0, :, 0], rotation.rotate(k, turned)[0, :, 0]
    products = (q @ k.T).unflatten(0, (8, 8)).unflatten(-1, (8, 8))
    torch.testing.assert_close(
        products[rows, columns, 0, 0], products[rows + 4, columns + 4, 4, 4], rtol=1e-4, atol=1e-4
    )


def test_trained_table_is_that_of_the_unscaled_frequencies():
    found = rotation.trained_table((3, 5), 8)
    torch.testing.assert_close(found, table(3, 5, 8), rtol=0, atol=0)


def test_trained_table_is_not_kept():
    made = weakref.ref(rotation.trained_table((3, 5), 8))
    assert made() is None


def test_table_is_made_on_the_device_asked_for():
    grid, frequency = rotation.positions(3, 5), rotation.frequencies(8)
    assert rotation.rotation_table(grid, [frequency] * 2, "meta").device.type == "meta"


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.sampled_from([12, 24]))
@settings(max_examples=30, deadline=None)
def test_each_axis_turns_its_own_channel_pairs(lengths, head_dim):
    """Angles written out token by token, for any number of axes."""
    axes = len(lengths)
    frequency = [rotation.frequencies(head_dim, axes=axes, linear=k + 1) for k in range(axes)]
    table = rotation.rotation_table(rotation.positions(*lengths), frequency)
    tokens = itertools.product(*map(range, lengths))
    angles = torch.stack(
        [
            torch.stack(
                [
                    frequency[pair % axes][pair // axes] * token[pair % axes]
                    for pair in range(head_dim // 2)
                ]
            )
            for token in tokens
        ]
    )
    torch.testing.assert_close(table[0, :, 0, :, 0, 0], angles.cos())
    torch.testing.assert_close(table[0, :, 0, :, 1, 0], angles.sin())


def test_halves_turn_as_neighbors_do():
    x = torch.randn(2, 12, 3, 8)
    interleaved = x.unflatten(-1, (2, 4)).transpose(-1, -2).flatten(-2)
    turned = rotation.rotate(interleaved, table(3, 4, 8)).unflatten(-1, (4, 2))
    expected = turned.transpose(-1, -2).flatten(-2)
    torch.testing.assert_close(rotation.rotate_halves(x, table(3, 4, 8)), expected, rtol=0, atol=0)
