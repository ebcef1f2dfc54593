"""Prompts become the tokens of the original tokenizers, whatever the language and the notation.

The originals are SentencePiece's own processor and transformers' fast tokenizers, on one vocabulary
each, learned here from four languages with the settings of the released ones.
"""

import logging
import re
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.tests.support.vocabularies import (
    FAMILIES,
    FORMS,
    PARTS,
    literally,
    processor,
    tokenize,
    tokenizer,
    with_ends,
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None, max_examples=100)
@given(parts=st.lists(st.tuples(PARTS, st.sampled_from([None, 0.5, 1.0, 1.3])), max_size=6))
def test_weights_change_no_token(family, form, parts):
    parts = [part for part in parts if part[0]]  # "(:1.3)" is no notation
    whole = "".join(text for text, _ in parts)
    prompt = "".join(
        literally(text) if weight is None else f"({literally(text)}:{weight})"
        for text, weight in parts
    )
    tokens, weights = tokenize(family, prompt, form)
    assert tokens == tokenize(family, literally(whole), form)[0]
    given_weights = {1.0 if weight is None else weight for _, weight in parts} | {1.0}
    assert set(weights) <= given_weights


def words(family, prompt, form):
    """A prompt's tokens in groups of one weight: what is written, and the weight."""
    groups = []
    tokens, weights = tokenize(family, prompt, form)
    known = FAMILIES[family]
    inside = slice(len(known.begin), -len(known.end) or None)
    for token, weight in zip(tokens[inside], weights[inside], strict=True):
        if not groups or groups[-1][1] != weight:
            groups.append(([], weight))
        groups[-1][0].append(token)
    decode = tokenizer(family, form).decode
    return [(decode(ids).strip(), weight) for ids, weight in groups]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("a (red:1.3) cat", [("a", 1.0), ("red", 1.3), ("cat", 1.0)]),
        ("a (red :1.3)cat", [("a", 1.0), ("red", 1.3), ("cat", 1.0)]),
        ("(a red cat:1.3)", [("a red cat", 1.3)]),
        ("(a (red:0.5):1.2) cat", [("a", 1.2), ("red", 0.5), ("cat", 1.0)]),
        ("(猫:1.3)", [("猫", 1.3)]),
        ("(🐘:1.3) cat", [("🐘", 1.3), ("cat", 1.0)]),
        (r"a \(red:1.3\) cat", [("a (red:1.3) cat", 1.0)]),
    ],
)
def test_weight_is_that_of_the_words_it_was_given(family, form, prompt, expected):
    if family == "t5" and "🐘" in prompt:
        expected = (
            [("⁇", 1.3), ("cat", 1.0)] if form == "spiece_model" else [("", 1.3), ("cat", 1.0)]
        )
    assert words(family, prompt, form) == expected


def test_token_across_two_weights_takes_the_stronger():
    (number,) = processor("llama").encode("under")
    assert tokenize("llama", "(un:1.2)der") == ([1, number, 2], [1.0, 1.2, 1.0])
    assert tokenize("llama", "(un:1.2)(der:0.5)") == ([1, number, 2], [1.0, 0.5, 1.0])


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_can_be_left_alone(family):
    tokens, weights = tokenize(family, "a (red:1.3) cat", disable_weights=True)
    assert tokens == with_ends(family, processor(family).encode("a (red:1.3) cat"))
    assert set(weights) == {1.0}


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_are_numbered_and_the_ends_are_in_none(family):
    (batch,) = (
        tokenizer(family).tokenize_with_weights("a (red:1.3) cat", return_word_ids=True).values()
    )
    known = FAMILIES[family]
    groups = [group for _, _, group in batch[0]]
    assert groups == [
        *(0 for _ in known.begin),
        *sorted(groups[len(known.begin) : len(groups) - len(known.end)]),
        *(0 for _ in known.end),
    ]
    assert set(groups) | {0} == {0, 1, 2, 3}


# --- embeddings


@pytest.mark.parametrize("family", FAMILIES)
def test_embedding_stands_between_two_texts(family):
    tokens, weights = tokenize(family, "a dog (embedding:three:1.2) and a cat")
    encode = processor(family).encode
    place = len(FAMILIES[family].begin) + len(encode("a dog "))
    assert all(isinstance(token, torch.Tensor) for token in tokens[place : place + 3])
    assert weights[place : place + 3] == [1.2] * 3
    del tokens[place : place + 3]
    assert tokens == with_ends(family, [*encode("a dog "), *encode(" and a cat")])


@pytest.mark.parametrize(
    "name, message",
    [("absent", 'no embedding "absent"'), ("wide", "of 5 features where this text encoder has 4")],
)
def test_embedding_that_cannot_be_used_is_left_out_aloud(caplog, name, message):
    prompt = f"a dog embedding:{name} and a cat"
    with caplog.at_level(logging.WARNING):
        tokens, _ = tokenize("gemma", prompt)
    assert tokens == [2, *processor("gemma").encode("a dog and a cat")]
    assert re.search(message, caplog.text)


def test_thousands_of_embeddings_that_are_not_there_are_one_warning(caplog):
    prompt = " ".join(f"embedding:absent{number}" for number in range(8000))
    with caplog.at_level(logging.WARNING):
        tokenize("gemma", f"a cat {prompt} {prompt}")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == (
        'There are no embeddings "absent0", "absent1", "absent2" and 7997 more in '
        "models/embeddings; they were left out."
    )


def test_embedding_without_a_name_is_text():
    assert tokenize("gemma", "a dog embedding:")[0] == [2, *processor("gemma").encode("a dog ")]


# --- length


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_counted_as_they_are_before_the_cut(family):
    def counted(text):
        lengths = []
        tokenizer(family).tokenize_with_weights(
            text, on_warning=lambda text: None, on_length=lengths.append
        )
        return lengths[0]

    assert counted("a (red:1.3) cat") == len(tokenize(family, "a red cat")[0])
    assert counted("") == len(FAMILIES[family].begin) + len(FAMILIES[family].end)
    long = "cat " * 5000
    assert counted(long) == len(with_ends(family, processor(family).encode(long)))


@pytest.mark.parametrize("family, limit", [("gemma", 256), ("llama", 4096), ("t5", 512)])
def test_long_prompt_is_cut_before_its_end_token(family, limit, caplog):
    assert tokenizer(family).limit == limit
    text = "a red cat " * limit
    whole = with_ends(family, processor(family).encode(text))
    with caplog.at_level(logging.WARNING):
        tokens, _ = tokenize(family, text)
    ends = len(FAMILIES[family].end)
    assert tokens == [*whole[: limit - ends], *FAMILIES[family].end]
    (warning,) = [r.getMessage() for r in caplog.records if "cut off" in r.getMessage()]
    assert f"has {len(whole)} tokens" in warning and f"reads {limit}" in warning
    rest = processor(family).decode(whole[limit - ends :]).split()
    (named,) = re.findall(r'from "(.*) \.\.\."', warning)
    assert named.split()[1:8] == rest[1:8] and named.split()[0].endswith(rest[0])


@pytest.mark.parametrize("family, limit", [("gemma", 256), ("llama", 4096), ("t5", 512)])
def test_prompt_of_exactly_the_limit_is_left_alone(family, limit, caplog):
    room = limit - len(with_ends(family, []))
    text = " ".join("a" for _ in range(room))
    assert len(tokenize(family, text)[0]) == limit
    assert "cut off" not in caplog.text
    with caplog.at_level(logging.WARNING):
        tokenize(family, text + " a")
    assert f"has {limit + 1} tokens" in caplog.text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_ten_thousand_words_take_a_moment(family, form):
    tokenizer(family, form)
    begin = time.process_time()
    tokenize(family, "(a red cat:1.1) sits on the mat " * 2000, form)
    assert time.process_time() - begin < 5  # usually 0.5; a quadratic way would take minutes


@pytest.mark.parametrize("before, rest", [(253, "dog"), (254, "underwater"), (255, "underwater")])
def test_rest_is_named_from_the_beginning_of_a_word(caplog, before, rest):
    assert len(processor("gemma").encode("a underwater")) == 3
    tokenize("gemma", "a " * before + "underwater dog")
    assert f'from "{rest}' in caplog.text


def test_embedding_at_the_cut_is_named_as_such(caplog):
    tokenize("gemma", "a " * 253 + "embedding:three")
    assert 'from "embedding:" on' in caplog.text


def test_cut_prompt_says_so_on_its_node(monkeypatch):
    from comfy_execution.utils import CurrentNodeContext
    from server import PromptServer

    class Editor:
        shown = []

        def send_progress_text(self, text, node_id):
            self.shown.append((node_id, text))

    monkeypatch.setattr(PromptServer, "instance", Editor(), raising=False)
    with CurrentNodeContext(prompt_id="job", node_id="7"):
        tokenize("gemma", "a red cat")
        assert Editor.shown == []
        tokenize("gemma", "cat " * 300)
    ((node, text),) = Editor.shown
    assert node == "7" and "were cut off" in text


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_that_is_asked_for_comes_after_the_end(family):
    plain, _ = tokenize(family, "a cat")
    name = FAMILIES[family].host_name
    for options in (
        {"min_length": 20},
        {"tokenizer_options": {f"{name}_min_length": 20}},
        {"tokenizer_options": {f"{name}_min_padding": 20 - len(plain)}},
    ):
        assert tokenize(family, "a cat", **options)[0] == plain + [0] * (20 - len(plain))
    assert tokenize(family, "a cat", min_length=1)[0] == plain


# --- what a prompt should not be able to do


@pytest.mark.parametrize("family, spelled", [("llama", "</s>"), ("t5", "</s>"), ("gemma", "<pad>")])
def test_spelled_end_does_not_hide_what_follows(family, spelled):
    """The host takes the first such token for the end of the prompt."""
    tokens, _ = tokenize(family, f"a cat {spelled} and a dog", "tokenizer_json")
    known = FAMILIES[family]
    hiding = known.end[0] if known.end else 0
    assert tokens.count(hiding) == len(known.end)
    text = tokenizer(family, "tokenizer_json").decode(tokens)
    assert "dog" in text


@pytest.mark.parametrize("form", FORMS)
def test_half_an_emoji_is_a_question_mark(form):
    assert tokenize("gemma", "a cat \ud83d", form) == tokenize("gemma", "a cat ?", form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_text_to_be_continued_has_no_end(family, form):
    inner = getattr(tokenizer(family, form), FAMILIES[family].host_name)
    expected = [*FAMILIES[family].begin, *processor(family).encode("(a cat:1.2)")]
    assert inner.to_continue("(a cat:1.2)") == expected
