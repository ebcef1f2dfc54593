"""Masks of captions, and the mean of their tokens."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.lumina.model.caption import additive_mask, masked_mean, padding_mask


def test_mask_that_hides_nothing_is_no_mask():
    assert padding_mask(torch.ones(2, 3, dtype=torch.long)) is None
    assert padding_mask(None) is None
    hiding = torch.tensor([[1, 1, 0]])
    assert padding_mask(hiding) is hiding


def test_bias_is_zero_on_tokens_and_lowest_on_padding():
    bias = additive_mask(torch.tensor([[1, 0]]), torch.bfloat16)
    assert bias.shape == (1, 1, 1, 2) and bias.dtype == torch.bfloat16
    assert bias.flatten().tolist() == [0, torch.finfo(torch.bfloat16).min]


def test_caption_without_tokens_hides_nothing():
    lowest = torch.finfo(torch.float32).min
    mask = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 0]])
    assert additive_mask(0 * mask, torch.float32).eq(0).all()
    bias = additive_mask(mask, torch.float32, lengths=(2, 2))
    assert bias.shape == (2, 1, 1, 4)
    assert bias[:, 0, 0].tolist() == [[0, 0, 0, lowest], [0, lowest, 0, 0]]


@given(st.integers(1, 6), st.integers(0, 6))
@settings(max_examples=20, deadline=None)
def test_mean_ignores_padding(tokens, padding):
    caption = torch.randn(1, tokens, 4)
    padded = torch.cat([caption, torch.full((1, padding, 4), 1e4)], dim=1)
    mask = torch.tensor([[1] * tokens + [0] * padding])
    torch.testing.assert_close(masked_mean(padded, mask), caption.mean(dim=1))


def test_mean_of_no_token_is_zero():
    assert masked_mean(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.long)).eq(0).all()


def test_mean_is_summed_in_float32():
    caption = torch.full((1, 4096, 1), 0.1, dtype=torch.bfloat16)
    mean = masked_mean(caption, torch.ones(1, 4096))
    assert mean.dtype == torch.bfloat16 and mean.item() == caption[0, 0, 0].item()
