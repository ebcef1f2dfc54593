"""The decoder against transformers' GemmaModel and LlamaModel, and what other files are told.

The oracle gets random weights, norms included, and ours loads them through its state dict.
"""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lumina_next.lumina.model.layers import (
    Attention,
    OffsetRMSNorm,
    scaled_dot_product_attention,
)
from lumina_next.lumina.text_encoders.config import FAMILIES
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.lumina.text_encoders.weights import load_decoder, to_native
from lumina_next.tests.support.decoders import (
    CONFIG,
    CONFIG_JSON,
    cast_weights,
    oracle,
    oracle_states,
    tiny_file,
)
from lumina_next.tests.support.token_rows import ALL, LEFT_PADDED, RIGHT_PADDED, TOKENS


@pytest.mark.parametrize("mask", [ALL, RIGHT_PADDED, LEFT_PADDED], ids=["all", "right", "left"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_hidden_state_is_that_of_transformers(
    family: str, kv_heads: int, mask: torch.Tensor
) -> None:
    theirs = oracle(kv_heads, family=family)
    ours = load_decoder(theirs.model.state_dict(), CONFIG_JSON | {"model_type": family})
    expected = oracle_states(theirs, mask)
    real = mask.bool()
    assert len(expected) == CONFIG.layers + 1
    for index in range(-len(expected), len(expected)):
        found = ours(TOKENS, mask, hidden_state=index)
        assert_close(found[real], expected[index][real], msg=lambda m, i=index: f"{i}: {m}")


def test_the_default_is_the_state_before_last() -> None:
    theirs = oracle()
    found = load_decoder(theirs.model.state_dict())(TOKENS, RIGHT_PADDED)
    real = RIGHT_PADDED.bool()
    assert_close(found[real], oracle_states(theirs, RIGHT_PADDED)[-2][real])


def test_bfloat16_error_is_no_larger_than_transformers() -> None:
    # Many tokens: on few, which of two equally good roundings wins is chance.
    tokens = torch.randint(3, 61, (16, 32), generator=torch.Generator().manual_seed(1))
    ours_error = theirs_error = 0.0
    for seed in range(8):
        theirs = cast_weights(oracle(seed=seed), torch.bfloat16)
        rounded = load_decoder(theirs.model.state_dict())(tokens)
        assert rounded.dtype == torch.bfloat16
        rounded_theirs = theirs.model(tokens, output_hidden_states=True).hidden_states[-2]
        cast_weights(theirs, torch.float32)
        exact = theirs.model(tokens, output_hidden_states=True).hidden_states[-2]
        ours_error += (rounded - exact).abs().mean().item()
        theirs_error += (rounded_theirs - exact).abs().mean().item()
    assert 0 < ours_error <= theirs_error


class CastingLayers:
    """Layers as a host makes them: weights stay half, each use casts them to the activations."""

    class Linear(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x, self.weight.to(x.dtype))

    class Embedding(torch.nn.Embedding):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.embedding(x, self.weight).float()


def test_half_weights_under_casting_layers_are_exact() -> None:
    theirs = cast_weights(oracle(), torch.bfloat16)
    ours = Decoder(CONFIG, ops=CastingLayers, dtype=torch.bfloat16)
    ours.load_state_dict(to_native(theirs.state_dict()))
    expected = oracle_states(cast_weights(theirs, torch.float32), LEFT_PADDED)
    real = LEFT_PADDED.bool()
    for index in (-1, -2, -3):
        found = ours(TOKENS, LEFT_PADDED, hidden_state=index)
        assert found.dtype == torch.float32
        assert_close(found[real], expected[index][real])


def test_state_before_last_never_touches_the_last_layer() -> None:
    model = Decoder(CONFIG)
    for parameter in [*model.layers[-1].parameters(), *model.norm.parameters()]:
        torch.nn.init.constant_(parameter, float("nan"))
    assert model(TOKENS, hidden_state=-2).isfinite().all()
    assert model(TOKENS, hidden_state=-1).isnan().all()


def test_several_states_come_from_one_run() -> None:
    model = load_decoder(tiny_file())
    runs = []
    model.layers[0].register_forward_hook(lambda *_: runs.append(1))
    found = model.hidden_states(model.embed(TOKENS), RIGHT_PADDED, (-1, -3, 0))
    assert len(runs) == 1
    for state, index in zip(found, (-1, -3, 0), strict=True):
        assert torch.equal(state, model(TOKENS, RIGHT_PADDED, hidden_state=index))


def test_embeds_are_scaled_inside() -> None:
    model = load_decoder(tiny_file())
    embeds = model.embed(TOKENS)
    assert torch.equal(embeds, model.embed_tokens.weight[TOKENS])
    assert torch.equal(model(embeds=embeds), model(TOKENS))
    assert_close(model(TOKENS, hidden_state=0), embeds * 32**0.5)


@settings(deadline=None, max_examples=10)
@given(left=st.integers(0, 6), right=st.integers(0, 6), garbage=st.integers(0, 60))
def test_padding_changes_no_token(left: int, right: int, garbage: int) -> None:
    model = load_decoder(oracle().model.state_dict())
    padded = F.pad(TOKENS, (left, right), value=garbage)
    mask = F.pad(ALL, (left, right))
    found = model(padded, mask)[:, left : left + TOKENS.shape[1]]
    assert_close(found, model(TOKENS), rtol=1e-4, atol=1e-5)  # angles far from 0 are coarser


@settings(deadline=None, max_examples=12)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    kv_heads=st.sampled_from([1, 2, 4]),
    cuts=st.sets(st.integers(1, 8)),
    mask=st.sampled_from([ALL, RIGHT_PADDED, LEFT_PADDED]),
)
def test_reading_in_parts_is_reading_at_once(
    family: str, kv_heads: int, cuts: set[int], mask: torch.Tensor
) -> None:
    theirs = oracle(kv_heads, family=family)
    model = load_decoder(theirs.model.state_dict(), CONFIG_JSON | {"model_type": family})
    embeds, cache, parts = model.embed(TOKENS), model.new_cache(), []
    for start, end in itertools.pairwise([0, *sorted(cuts), 9]):
        parts += model.hidden_states(embeds[:, start:end], mask[:, :end], (-1,), cache)
    assert {layer.tokens for layer in cache} == {9}
    real = mask.bool()
    assert_close(torch.cat(parts, dim=1)[real], model(TOKENS, mask, hidden_state=-1)[real])


def test_long_text_read_token_by_token_is_that_read_at_once() -> None:
    model = load_decoder(oracle().model.state_dict())
    tokens = torch.randint(3, 61, (1, 70), generator=torch.Generator().manual_seed(2))
    embeds, cache = model.embed(tokens), model.new_cache()
    parts = [model.hidden_states(embeds[:, [i]], None, (-1,), cache)[0] for i in range(70)]
    expected = model(tokens, hidden_state=-1)
    assert_close(torch.cat(parts, dim=1), expected)


def test_every_layer_remembers_whatever_state_was_asked_for() -> None:
    model = load_decoder(oracle().model.state_dict())
    embeds, cache = model.embed(TOKENS), model.new_cache()
    (early,) = model.hidden_states(embeds[:, :4], None, (1,), cache)
    assert_close(early, model(TOKENS, hidden_state=1)[:, :4])
    (late,) = model.hidden_states(embeds[:, 4:], None, (-1,), cache)
    assert_close(late, model(TOKENS, hidden_state=-1)[:, 4:])


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_the_next_token_are_those_of_transformers(family: str) -> None:
    theirs = oracle(family=family)
    model = Decoder(dataclasses.replace(CONFIG, family=family, has_output_head=family == "llama"))
    model.load_state_dict(to_native(theirs.state_dict(), CONFIG_JSON | {"model_type": family}))
    found = model.logits(model(TOKENS, hidden_state=-1))
    assert_close(found, theirs(TOKENS).logits)


def plain_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention by the formula; unlike torch's, it is NaN where every place holds -inf."""
    return ((q @ k.mT * scale) + mask).softmax(-1) @ v


@pytest.mark.parametrize("attention", [plain_attention, scaled_dot_product_attention])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_of_padding_stay_finite(dtype: torch.dtype, attention: Attention) -> None:
    model = Decoder(CONFIG, attention=attention, dtype=dtype)
    nothing = torch.zeros(2, 9)
    assert model(TOKENS, nothing, hidden_state=-1).isfinite().all()
    assert model(TOKENS, LEFT_PADDED, hidden_state=-1).isfinite().all()


def test_attention_and_norm_may_be_handed_in() -> None:
    seen = []

    def attention(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor, scale: float
    ) -> torch.Tensor:
        seen.append((q.shape, k.shape, v.shape, mask.shape, mask.dtype, scale))
        return scaled_dot_product_attention(q, k, v, mask=mask, scale=scale)

    class HostNorm(OffsetRMSNorm):
        pass

    model = Decoder(CONFIG, attention=attention, norm=HostNorm)
    plain = load_decoder(model.state_dict())
    assert torch.equal(model(TOKENS, RIGHT_PADDED), plain(TOKENS, RIGHT_PADDED))
    shapes = ((2, 4, 9, 16), (2, 1, 9, 16), (2, 1, 9, 16), (2, 1, 9, 9))
    assert seen == [(*shapes, torch.float32, 0.25)] * 3
    norms = [name for name, module in model.named_modules() if isinstance(module, HostNorm)]
    assert len(norms) == 2 * CONFIG.layers + 1


@pytest.mark.parametrize("index", [5, -6])
def test_hidden_state_that_does_not_exist_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=f"hidden state {index} does not exist.*4 layers has 5"):
        Decoder(CONFIG)(TOKENS, hidden_state=index)


def test_exactly_one_input_is_needed() -> None:
    model = Decoder(CONFIG)
    with pytest.raises(ValueError, match="exactly one"):
        model()
    with pytest.raises(ValueError, match="exactly one"):
        model(TOKENS, embeds=model.embed(TOKENS))
