"""Writing against transformers: greedy text token for token, and the odds of each drawn token.

Models are tiny and random; what their text says is nothing, but it must be the same nothing.
"""

import dataclasses
import functools

import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch.testing import assert_close
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lumina_next.lumina.model.layers import embedding_as_head
from lumina_next.lumina.text_encoders.config import FAMILIES
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.lumina.text_encoders.generation import (
    Sampling,
    candidates,
    next_token,
    penalized,
    stop_tokens,
    write,
)
from lumina_next.lumina.text_encoders.weights import OUTPUT_HEAD, decoder_config, to_native
from lumina_next.tests.support.decoders import CONFIG_JSON, oracle

GREEDY = Sampling(temperature=0)
VOCABULARY = CONFIG_JSON["vocab_size"]
PROMPTS = {"begin token only": [2], "short": [2, 9, 31], "long": [2, *range(5, 45)]}


@functools.cache
def author(family: str = "gemma") -> transformers.PreTrainedModel:
    """An oracle that looks back sharply; others soon repeat one token and agree by that alone."""
    theirs = oracle(kv_heads=2, family=family)
    for layer in theirs.model.layers:
        layer.self_attn.q_proj.weight *= 4
        layer.self_attn.k_proj.weight *= 4
        layer.self_attn.o_proj.weight *= 16
    return theirs


def decoder_of(theirs: transformers.PreTrainedModel, family: str) -> Decoder:
    config_json = CONFIG_JSON | {"model_type": family}
    native = to_native(theirs.state_dict(), config_json)
    config = decoder_config(native, config_json)
    model = Decoder(dataclasses.replace(config, has_output_head=OUTPUT_HEAD in native))
    model.load_state_dict(native)
    return model.requires_grad_(False)


def written(model: Decoder, prompt: list[int], sampling: Sampling, **rest: object) -> list[int]:
    return list(write(model, model.embed(torch.tensor([prompt])), sampling, **rest))


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_likeliest_tokens_are_those_of_transformers(family: str, prompt: str) -> None:
    theirs, start = author(family), PROMPTS[prompt]
    whole = theirs.generate(
        torch.tensor([start]), max_new_tokens=32, do_sample=False, eos_token_id=None
    )
    expected = whole[0, len(start) :].tolist()
    assert len(expected) == 32 and len(set(expected)) > 10
    ours = decoder_of(theirs, family)
    assert written(ours, start, GREEDY, max_tokens=32) == expected
    end = expected[25]
    until = expected[: expected.index(end)]
    assert written(ours, start, GREEDY, max_tokens=32, stops={end}) == until


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_penalized_likeliest_tokens_are_those_of_transformers(penalty: float) -> None:
    theirs = author()
    # From the begin token alone, since their penalty reads the prompt as well.
    whole = theirs.generate(
        torch.tensor([[2]]),
        max_new_tokens=32,
        do_sample=False,
        eos_token_id=None,
        logits_processor=LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty, 1)]),
    )
    sampling = Sampling(temperature=0, repetition_penalty=penalty)
    found = written(decoder_of(theirs, "gemma"), [2], sampling, max_tokens=32)
    assert found == whole[0, 1:].tolist()
    assert found != written(decoder_of(theirs, "gemma"), [2], GREEDY, max_tokens=32)


def test_each_step_reads_one_token() -> None:
    model, read = decoder_of(author(), "gemma"), []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda _, given: read.append(given[0].shape[1]))
    written(model, PROMPTS["short"], GREEDY, max_tokens=5)
    assert read == [3] * len(model.layers) + [1] * 4 * len(model.layers)


def test_scores_are_asked_for_the_last_token_only() -> None:
    model, asked = decoder_of(author(), "gemma"), []

    def head(embedding: torch.nn.Module, state: torch.Tensor) -> torch.Tensor:
        asked.append(tuple(state.shape))
        return embedding_as_head(embedding, state)

    model.tied_head = head
    written(model, PROMPTS["long"], GREEDY, max_tokens=3)
    assert asked == [(1, CONFIG_JSON["hidden_size"])] * 3


def test_no_token_is_asked_for_after_the_last() -> None:
    model, runs = decoder_of(author(), "gemma"), []
    model.layers[0].register_forward_hook(lambda *_: runs.append(1))
    assert written(model, [2], GREEDY, max_tokens=0) == [] and not runs
    assert len(written(model, [2], GREEDY, max_tokens=1)) == len(runs) == 1


def test_same_seed_writes_the_same_and_torch_keeps_its_own_numbers() -> None:
    model, before = decoder_of(author(), "gemma"), torch.get_rng_state()
    largest = 2**64 - 1
    texts = [written(model, [2], Sampling(), max_tokens=30, seed=n) for n in (5, 6, largest)]
    torch.rand(3)
    assert written(model, [2], Sampling(), max_tokens=30, seed=5) == texts[0]
    assert len({tuple(text) for text in texts}) == 3
    torch.set_rng_state(before)
    unseeded = [written(model, [2], Sampling(), max_tokens=30) for _ in range(2)]
    assert unseeded[0] != unseeded[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_llama_without_its_head_says_so() -> None:
    theirs = oracle(family="llama")
    model = decoder_of(theirs.model, "llama")
    assert model(torch.tensor([[2, 9]])).isfinite().all()
    with pytest.raises(ValueError, match='LLaMA-2 .* cannot write: .*"lm_head.weight"'):
        written(model, [2], GREEDY, max_tokens=1)


def scores(seed: int, size: int = 40) -> torch.Tensor:
    return 3 * torch.randn(size, generator=torch.Generator().manual_seed(seed))


def their_odds(logits: torch.Tensor, said: list[int], sampling: Sampling) -> torch.Tensor:
    """Probabilities of every token by transformers' processors, in the order of its `generate`."""
    chain = [
        RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
        TemperatureLogitsWarper(sampling.temperature),
        *([TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []),
        *([TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []),
        MinPLogitsWarper(sampling.min_p),
    ]
    history = torch.tensor([said], dtype=torch.long)
    return LogitsProcessorList(chain)(history, logits[None].clone())[0].softmax(0)


def our_odds(logits: torch.Tensor, said: list[int], sampling: Sampling) -> torch.Tensor:
    tokens, odds = candidates(penalized(logits, said, sampling) / sampling.temperature, sampling)
    return torch.zeros(len(logits)).index_copy(0, tokens, odds.float())


samplings = st.builds(
    Sampling,
    temperature=st.floats(0.05, 3),
    top_k=st.sampled_from([0, 1, 2, 7, 40, 64]),
    top_p=st.sampled_from([0.0, 0.3, 0.9, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
    repetition_penalty=st.floats(0.5, 2),
)


@example(Sampling(temperature=0.125, top_k=0, top_p=1.0), 1, [])
@given(samplings, st.integers(0, 999), st.lists(st.integers(0, 39), max_size=30))
@settings(deadline=None, max_examples=40)
def test_odds_are_those_of_transformers(sampling: Sampling, seed: int, said: list[int]) -> None:
    found, expected = (odds(scores(seed), said, sampling) for odds in (our_odds, their_odds))
    assert_close(found, expected)
    assert torch.equal(found > 0, expected > 0)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits, sampling = scores(3, size=9), Sampling(temperature=1.5, top_k=7, top_p=0.95)
    generator, draws = torch.Generator().manual_seed(0), 2_000
    drawn = [next_token(logits, [4], sampling, generator) for _ in range(draws)]
    odds = their_odds(logits.double(), [4], sampling)
    counts = torch.bincount(torch.tensor(drawn), minlength=9)
    possible = odds > 0
    assert 3 < possible.sum() < 9 and counts[~possible].sum() == 0
    assert chisquare(counts[possible], draws * odds[possible]).pvalue > 1e-3


def test_equally_likely_tokens_all_stay() -> None:
    tokens, odds = candidates(torch.tensor([0.0, 2.0, 1.0, 2.0, 1.0]), Sampling(top_k=3))
    assert tokens.tolist() == [1, 3, 2, 4]
    assert odds[0] == odds[1] and odds[2] == odds[3]


def test_presence_penalty_is_subtracted_once() -> None:
    logits = torch.tensor([4.0, -4.0, 1.0])
    sampling = Sampling(repetition_penalty=2, presence_penalty=0.5)
    assert_close(penalized(logits, [0, 1, 0, 0], sampling), torch.tensor([1.5, -8.5, 1.0]))
    assert_close(logits, torch.tensor([4.0, -4.0, 1.0]))


def test_temperature_0_takes_the_likeliest_token() -> None:
    logits = scores(1)
    for sampling in (GREEDY, Sampling(top_k=1), Sampling(top_p=0), Sampling(min_p=1)):
        drawn = {next_token(logits, [], sampling, torch.Generator()) for _ in range(5)}
        assert drawn == {int(logits.argmax())}
    least = Sampling(temperature=0, presence_penalty=100)
    assert next_token(logits, range(39), least, torch.Generator()) == 39


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_are_drawn_from_in_full(dtype: torch.dtype) -> None:
    logits = scores(2).to(dtype)
    sampling = Sampling(temperature=0.7, repetition_penalty=1.3)
    drawn = [
        [next_token(given, range(20), sampling, generator) for _ in range(300)]
        for given in (logits, logits.float())
        for generator in [torch.Generator().manual_seed(0)]
    ]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    "given, named",
    [
        ({"temperature": -1}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty .* 1 switches it off"),
    ],
)
def test_number_outside_its_range_is_named(given: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Sampling(**given)


def test_a_text_ends_at_the_end_token_and_at_a_new_line_where_asked() -> None:
    gemma = dict(enumerate(["<pad>", "<eos>", "<bos>", "<0x0A>", "\n", "\n\n", "</s>", "a"]))
    gemma[107] = "<end_of_turn>"
    assert stop_tokens(gemma, 1, at_line_end=False) == {1, 107}
    assert stop_tokens(gemma, 1, at_line_end=True) == {1, 107, 3, 4, 5}
    llama = dict(enumerate(["<unk>", "<s>", "</s>", "<0x0A>", "a"]))
    assert stop_tokens(llama, 2, at_line_end=False) == {2}
    assert stop_tokens(llama, None, at_line_end=True) == {3}
