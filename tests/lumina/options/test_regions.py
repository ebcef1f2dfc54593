"""Regions: where boxes, grids and masks lie, how they share a token, and what each token reads.

The released compositional code, evaluated here as it is described, is the oracle for single rows
and columns, where it is right. With one layer, self-attention knows no caption, so that a token
changes exactly where the caption that it reads does.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lumina_next.lumina.model.flag_dit import FlagDiT
from lumina_next.lumina.model.layers import scaled_dot_product_attention
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.options.regions import (
    Box,
    CaptionShares,
    Region,
    acting,
    feathered,
    grid,
)
from lumina_next.tests.support.next_dits import SIZES, TINY, TINY_FLAG_DIT
from lumina_next.tests.support.random_weights import randomize

ONE_LAYER = NextDiT(type(TINY)(**SIZES | {"layers": 1}))
HEIGHT, WIDTH = 8, 12  # of the latent: 4 x 6 tokens


@pytest.fixture(scope="module")
def model():
    return randomize(NextDiT(TINY), std=0.15)


@pytest.fixture(scope="module")
def one_layer():
    return randomize(ONE_LAYER, std=0.15)


def noise(batch=1, height=HEIGHT, width=WIDTH):
    return torch.randn(batch, 4, height, width, generator=torch.manual_seed(1)), torch.full(
        (batch,), 0.3
    )


def captions(*lengths, batch=1):
    generator = torch.manual_seed(2)
    return [torch.randn(batch, n, TINY.caption_dim, generator=generator) for n in lengths]


def shares(regions, lengths, height=HEIGHT, width=WIDTH, line_ends=0):
    weights = torch.stack([Region(area).weights(height, width) for area in regions], dim=1)
    return CaptionShares.of(weights, lengths, line_ends=line_ends)


def drawn(model, texts, regions, **sizes):
    """The velocity with texts[0] as the global caption and each other one in its region."""
    lengths = [text.shape[1] for text in texts]
    options = ForwardOptions(regions=shares(regions, lengths, **sizes))
    return model(*noise(**sizes), torch.cat(texts, dim=1), None, options)


def tokens_that_read(model, texts, regions, index, **sizes):
    """The tokens (rows, columns) whose velocity changes with one caption."""
    changed = [text + 1 if i == index else text for i, text in enumerate(texts)]
    difference = drawn(model, texts, regions, **sizes) - drawn(model, changed, regions, **sizes)
    return (
        difference[0].abs().amax(0).unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).amax((1, 3)) > 1e-5
    )


# --- places


def test_grid_goes_row_by_row():
    cells = [torch.nonzero(cell.mask(4, 6)[0]).tolist() for cell in grid(2, 3)]
    assert [cell[0] for cell in cells] == [[0, 0], [0, 2], [0, 4], [2, 0], [2, 2], [2, 4]]
    assert all(len(cell) == 4 for cell in cells)


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_grid_fills_the_picture_once(rows, columns, height, width):
    total = sum(cell.mask(height, width) for cell in grid(rows, columns))
    assert_close(total, torch.ones(1, height, width), rtol=0, atol=1e-4)


def test_box_covers_a_place_as_far_as_it_reaches_into_it():
    mask = Box(0.25, 0.5, 0.25, 0.75).mask(4, 10)[0]
    assert_close(mask[0:2], torch.zeros(2, 10))
    assert_close(mask[2], torch.tensor([0, 0, 0.5, 1, 1, 0, 0, 0, 0, 0]))
    assert_close(mask[3], mask[2])


def test_box_beyond_the_edge_is_cut_and_one_outside_refused():
    assert_close(Box(0.5, 0, 1, 1).mask(2, 4), Box(0.5, 0, 0.5, 1).mask(2, 4))
    with pytest.raises(ValueError, match="outside the picture.*x 1 and y 0"):
        Box(1, 0, 0.5, 0.5)


def test_mask_of_any_size_covers_the_same_part():
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    for size in (64, 8, 200):
        mask = torch.nn.functional.interpolate(left[None], (size, 3 * size))[0]
        assert_close(Region(mask).weights(8, 12), Box(0, 0, 0.5, 1).mask(8, 12))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(1, 8, 8), "is empty"),
        (torch.stack([torch.zeros(8, 8), torch.ones(8, 8)]), "is empty"),
        (torch.full((1, 8, 8), torch.nan), "no numbers"),
        (torch.ones(8, 8), r"has the shape \(8, 8\)"),
        (torch.ones(0, 8, 8), r"has the shape \(0, 8, 8\)"),
    ],
)
def test_mask_that_is_none_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        Region(mask)


@pytest.mark.parametrize(
    "wrong", [{"weight": -1}, {"feather": 2}, {"start": 0.5, "end": 0.5}, {"start": 0.6, "end": 0}]
)
def test_setting_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Region(Box(0, 0, 1, 1), **wrong)


@given(st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_feathered_cells_still_fill_the_picture(radius):
    total = sum(feathered(cell.mask(8, 12), radius) for cell in grid(2, 2))
    assert_close(total, torch.ones(1, 8, 12))


def test_feather_is_a_ramp_of_its_width():
    half = Region(Box(0, 0, 0.5, 1), feather=0.5).weights(16, 32)[0, 8]
    ramp = (half > 0) & (half < 1)
    assert ramp.sum() == 8 and bool((half.diff() <= 0).all())
    assert_close(half[:12], torch.ones(12))
    assert_close(half[20:], torch.zeros(12))


# --- shares


def test_shares_sum_to_1_and_the_global_caption_gets_the_rest():
    weights = torch.rand(2, 3, 8, 12, generator=torch.manual_seed(0))
    found = CaptionShares.of(weights, (1, 1, 1, 1)).shares
    assert_close(found.sum(1), torch.ones(2, 24))
    faint = CaptionShares.of(weights / 10, (1, 1, 1, 1)).shares
    assert_close(faint[:, 0], 1 - faint[:, 1:].sum(1))


def test_weights_divide_an_overlap():
    everywhere = torch.ones(1, 1, 8, 12)
    found = CaptionShares.of(torch.cat([everywhere, 3 * everywhere], dim=1), (1, 1, 1)).shares
    assert_close(found[0, :, 0], torch.tensor([0, 0.25, 0.75]))


def test_odd_latents_have_shares_for_their_last_tokens():
    found = CaptionShares.of(Box(0, 0, 0.5, 1).mask(5, 7)[None], (1, 1)).shares
    assert found.shape == (1, 2, 3 * 4)
    assert_close(found[0, 1].view(3, 4)[0], torch.tensor([1, 0.75, 0, 0]))


@pytest.mark.parametrize(
    ("sigma", "expected"), [(1.0, [1, 0]), (0.6, [1, 1]), (0.5, [0, 1]), (0.0, [0, 1])]
)
def test_regions_act_in_their_ranges(sigma, expected):
    ranges = torch.tensor([[[1.0, 0.5], [0.7, 0.0]]])
    assert acting(ranges, torch.tensor([sigma])).tolist() == [expected]


# --- what tokens read

LEFT, RIGHT = Box(0, 0, 0.5, 1), Box(0.5, 0, 0.5, 1)


def test_region_with_the_global_caption_changes_nothing(model):
    (caption,) = captions(7)
    x, t = noise()
    found = drawn(model, [caption, caption], [LEFT])
    assert_close(found, model(x, t, caption))


@pytest.mark.parametrize("cells", [(2, 2), (2, 3), (1, 3), (4, 1)])
def test_every_cell_reads_its_own_caption(one_layer, cells):
    regions = grid(*cells)
    texts = captions(6, *range(3, 3 + len(regions)))
    for index, cell in enumerate(regions, start=1):
        found = tokens_that_read(one_layer, texts, regions, index)
        assert torch.equal(found, cell.mask(4, 6)[0] > 0), index


def test_free_masks_read_their_own_captions_and_the_rest_the_global_one(one_layer):
    generator = torch.manual_seed(5)
    places = torch.randint(0, 4, (4, 6), generator=generator)
    masks = [(places == index).float()[None] for index in (1, 2, 3)]
    texts = captions(6, 4, 9, 3)
    for index in (1, 2, 3):
        found = tokens_that_read(one_layer, texts, masks, index)
        assert torch.equal(found, places == index)


def test_overlap_reads_both(one_layer):
    regions = [Box(0, 0, 0.67, 1), Box(0.33, 0, 0.67, 1)]
    texts = captions(6, 4, 9)
    first, second = (tokens_that_read(one_layer, texts, regions, index) for index in (1, 2))
    assert first[0].tolist() == [True] * 5 + [False]
    assert second[0].tolist() == [False] + [True] * 5


def test_longer_caption_does_not_outweigh_a_shorter_one(one_layer):
    """Repeating a caption changes nothing that it says, nor what it counts in an overlap."""
    everywhere = [Box(0, 0, 1, 1)] * 2
    whole, one, other = captions(6, 4, 4)
    found = drawn(one_layer, [whole, one, other.repeat(1, 20, 1)], everywhere)
    assert_close(found, drawn(one_layer, [whole, one, other], everywhere))


def test_padded_captions_read_the_same(model):
    whole, one, other = captions(5, 4, 9)
    expected = drawn(model, [whole, one, other], [LEFT, RIGHT])
    padded = [torch.cat([text, 7 * torch.ones(1, 3, 24)], dim=1) for text in (whole, one, other)]
    mask = torch.cat([torch.tensor([[1] * n + [0] * 3]) for n in (5, 4, 9)], dim=1)
    options = ForwardOptions(regions=shares([LEFT, RIGHT], (8, 7, 12)))
    found = model(*noise(), torch.cat(padded, dim=1), mask, options)
    assert_close(found, expected)


def test_pictures_of_a_batch_have_their_own_regions(model):
    texts = captions(5, 4, 9)
    x, t = noise(batch=2)
    weights = torch.stack([torch.cat([LEFT.mask(8, 12), RIGHT.mask(8, 12)]) for _ in range(2)])
    weights[1] = weights[1].flip(0)
    options = ForwardOptions(regions=CaptionShares.of(weights, (5, 4, 9)))
    both = model(x, t, torch.cat(texts, dim=1).repeat(2, 1, 1), None, options)
    for row, regions in enumerate([[LEFT, RIGHT], [RIGHT, LEFT]]):
        own = ForwardOptions(regions=shares(regions, (5, 4, 9)))
        alone = model(x[row : row + 1], t[:1], torch.cat(texts, dim=1), None, own)
        assert_close(both[row : row + 1], alone)


def test_prompt_without_regions_beside_one_with_them_hides_no_whole_caption():
    """Where all of a caption is hidden, fast kernels give NaN, which no share of 0 takes away."""

    def attention(q, k, v, *, mask, scale, options):
        assert mask is None or (mask == 0).any(-1).all()
        return scaled_dot_product_attention(q, k, v, mask=mask, scale=scale)

    model = randomize(NextDiT(TINY, attention=attention), std=0.15)
    whole, own = captions(5, 4)
    x, t = noise(batch=2)
    weights = torch.cat([LEFT.mask(8, 12), torch.zeros(1, 8, 12)])[:, None]
    options = ForwardOptions(regions=CaptionShares.of(weights, (5, 4)))
    both = torch.cat([torch.cat([whole, own], 1), torch.cat([whole, 0 * own], 1)])
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    found = model(x, t, both, mask, options)
    assert_close(found[1:], model(x[1:], t[1:], whole))


def test_captions_of_another_length_than_said_are_refused(model):
    options = ForwardOptions(regions=shares([LEFT], (5, 4)))
    with pytest.raises(ValueError, match="have 9 tokens together, and 8 came"):
        model(*noise(), torch.zeros(1, 8, 24), None, options)


def test_flag_dit_reads_by_regions_its_line_ends_as_the_token_before():
    model = randomize(FlagDiT(type(TINY_FLAG_DIT)(**SIZES | {"layers": 1})), std=0.15)
    texts = captions(6, 4, 9, 3, 5)
    for index, cell in enumerate(grid(2, 2), start=1):
        lengths = [text.shape[1] for text in texts]
        options = ForwardOptions(regions=shares(grid(2, 2), lengths, line_ends=1))
        changed = [text + 1 if i == index else text for i, text in enumerate(texts)]
        one, other = (model(*noise(), torch.cat(t, 1), None, options) for t in (texts, changed))
        found = (one - other)[0, :, ::2, ::2].abs().amax(0) > 1e-5
        assert torch.equal(found, cell.mask(4, 6)[0] > 0)


# --- the released compositional code


def released(model, x, t, regional, unwanted, whole, cells):
    """Its velocity for a batch of [wanted, unwanted], by cells of whole tokens (rows, columns).

    Queries of the wanted row are repeated for each caption and masked by its cell; rows with
    nothing to read give 0; results are summed. Both rows are scaled by the global caption.
    """
    rows, columns = cells
    height, width = (side // 2 for side in x.shape[-2:])
    region_masks = torch.zeros(len(regional), height, width, dtype=torch.bool)
    cell_height, cell_width = height // rows, width // columns
    for row in range(rows):
        for column in range(columns):
            index = (row + 1) * (column + 1) - 1  # right for a single row or column only
            top, left = row * cell_height, column * cell_width
            region_masks[index, top : top + cell_height, left : left + cell_width] = True

    def attend(q, k, v, allowed):
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return scores.masked_fill(~allowed, -torch.inf).softmax(-1).nan_to_num(0) @ v

    def attention(module):
        def forward(x, caption, norm, mask, options):
            def heads(x, count):
                return x.unflatten(-1, (count, -1)).transpose(1, 2)

            q = heads(module.q_norm(module.wq(x)), module.heads)
            k = heads(module.k_norm(module.wk(x)), module.kv_heads)
            q, k = (module._rotated(item, options.rotation, None) for item in (q, k))
            repeats = module.heads // module.kv_heads
            k, v = (
                item.repeat_interleave(repeats, dim=1)
                for item in (k, heads(module.wv(x), module.kv_heads))
            )
            everything = torch.ones(1, dtype=torch.bool)
            image = attend(q, k, v, everything)

            def read(q, text, allowed):
                text = norm(text)
                k = heads(module.ky_norm(module.wk_y(text)), module.kv_heads)
                v = heads(module.wv_y(text), module.kv_heads)
                k, v = (item.repeat_interleave(repeats, dim=1) for item in (k, v))
                return attend(q, k, v, allowed) * module.gate.weight.tanh()[:, None, None]

            wanted = sum(
                read(q[:1], text, mask.flatten()[:, None])
                for text, mask in zip(regional, region_masks, strict=True)
            )
            text = torch.cat([wanted, read(q[1:], unwanted, everything)])
            return module.wo((image + text).transpose(1, 2).flatten(2))

        return forward

    kept = [layer.attention.forward for layer in model.layers]
    for layer in model.layers:
        layer.attention.forward = attention(layer.attention)
    try:
        return model(x.repeat(2, 1, 1, 1), t.repeat(2), whole.repeat(2, 1, 1))
    finally:
        for layer, forward in zip(model.layers, kept, strict=True):
            layer.attention.forward = forward


@pytest.mark.parametrize("cells", [(1, 2), (1, 3), (2, 1), (4, 1), (1, 1)])
def test_single_row_or_column_is_that_of_the_released_code(model, cells):
    count = cells[0] * cells[1]
    whole, unwanted, *regional = captions(20, 3, *range(4, 4 + count))
    x, t = noise()
    expected = released(model, x, t, regional, unwanted, whole, cells)

    lengths = (20, *(text.shape[1] for text in regional))
    options = ForwardOptions(regions=shares(grid(*cells), lengths))
    wanted = model(x, t, torch.cat([whole, *regional], dim=1), None, options)
    everywhere = ForwardOptions(regions=shares([Box(0, 0, 1, 1)], (20, 3)))
    other = model(x, t, torch.cat([whole, unwanted], dim=1), None, everywhere)
    assert_close(torch.cat([wanted, other]), expected)
