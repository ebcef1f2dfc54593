"""Vocabularies give the tokens of the libraries they come from."""

import functools
import json

import pytest
from hypothesis import example, given, settings

from lumina_next.tests.support.vocabularies import (
    ANYTHING,
    FAMILIES,
    MULTILINGUAL,
    literally,
    original,
    processor,
    tokenize,
    vocabulary,
    with_ends,
)


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None, max_examples=200)
@given(text=MULTILINGUAL | ANYTHING)
@example("")
@example(" ")
@example("  two  spaces \n\nand (lines)\n")
@example("\\(escaped\\) and ((nested)) :) (: ()")
@example("👍🏽👩‍👩‍👧 e\u0301 ﬁ ａ\u3000b\u200bc")
def test_tokens_are_those_of_sentencepiece(family, text):
    expected = with_ends(family, processor(family).encode(text))
    tokens, weights = tokenize(family, literally(text))
    assert tokens == expected
    assert set(weights) <= {1.0}


@functools.cache
def json_tokens(family):
    from lumina_next.host.prompts.vocabulary import JsonTokenizer

    return JsonTokenizer(original(family).backend_tokenizer.to_str().encode())


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None, max_examples=200)
@given(text=MULTILINGUAL | ANYTHING)
@example("  two  spaces \n\nand (lines)\n")
def test_tokens_are_those_of_transformers(family, text):
    expected = original(family).encode(text, add_special_tokens=False)
    assert json_tokens(family)(text)["input_ids"] == expected
    assert [token for token, _, _ in json_tokens(family).spans(text)] == expected


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None, max_examples=200)
@given(text=MULTILINGUAL)
def test_both_forms_of_a_vocabulary_agree(family, text):
    assert tokenize(family, literally(text)) == tokenize(family, literally(text), "tokenizer_json")


@pytest.mark.parametrize("family", FAMILIES)
def test_places_cover_the_text(family):
    """Of every letter one token says that it stands there; spaces at the ends may be dropped."""
    from lumina_next.host.prompts.vocabulary import FORMS

    text = "a red 猫 🐈 cat, and"
    tokens = FORMS["spiece_model"](vocabulary(family))
    spans = list(tokens.spans(text))
    assert [token for token, _, _ in spans] == tokens(text)["input_ids"]
    assert "".join(text[begin:end] for _, begin, end in spans) == text


def damaged(charsmap):
    """A tokenizer.json whose library panics, which no `except Exception` catches."""
    words = {"type": "WordLevel", "vocab": {"<unk>": 0, "cat": 1}, "unk_token": "<unk>"}
    normalizer = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    return json.dumps({"version": "1.0", "normalizer": normalizer, "model": words}).encode()


@pytest.mark.parametrize("charsmap", ["", "AAAA"])
def test_vocabulary_that_makes_its_library_panic_is_an_error_with_its_name(charsmap):
    from lumina_next.host.prompts.vocabulary import JsonTokenizer

    tokenizer = JsonTokenizer(damaged(charsmap), "tokenizer.json in gemma")
    with pytest.raises(ValueError, match="^tokenizer.json in gemma cannot be read.*Precompiled"):
        tokenizer("a cat")


def test_panic_at_a_prompt_is_an_error_with_the_files_name():
    """This one opens, and fails only where there is a text to normalize."""
    from lumina_next.host.prompts.vocabulary import JsonTokenizer

    tokenizer = JsonTokenizer(damaged("AAAAAAAAAAA="), "tokenizer.json in gemma")
    for use in (tokenizer, tokenizer.with_special_tokens, lambda text: list(tokenizer.spans(text))):
        with pytest.raises(ValueError, match="^tokenizer.json in gemma cannot be read"):
            use("a cat")
