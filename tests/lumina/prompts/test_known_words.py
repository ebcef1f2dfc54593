"""The words that a small text encoder knows: read from its config.json, told for a prompt."""

import pytest

from lumina_next.lumina.prompts.known_words import MOST_NAMED, KnownWords

KNOWN = KnownWords("The demo model", ("red", "star", "a"))


def test_unknown_words_are_named_once_with_those_that_are_known():
    assert KNOWN.explain_unknown("a cat wearing a hat, a CAT") == (
        "The demo model does not know: cat, wearing, hat. It knows: red, star, a."
    )


@pytest.mark.parametrize("text", ["", "A red star.", "a RED, (star)!", " \n", "..."])
def test_known_words_need_no_remark(text):
    assert KNOWN.explain_unknown(text) is None


@pytest.mark.parametrize("text, word", [("don't", "don't"), ("猫", "猫"), ("3 stars", "3, stars")])
def test_words_are_whole_in_every_script(text, word):
    assert f"know: {word}." in KNOWN.explain_unknown(text)


def test_many_unknown_words_are_counted():
    text = " ".join(f"word{n}" for n in range(MOST_NAMED + 5))
    assert ", and 5 more. It knows" in KNOWN.explain_unknown(text)


def test_config_holds_them():
    assert KnownWords.from_config(KNOWN.to_config(), "a file") == KNOWN
    assert KnownWords.from_config({"model_type": "gemma"}, "a file") is None


@pytest.mark.parametrize(
    "entry",
    [None, 5, [], {}, {"model": "m"}, {"model": 1, "words": ["a"]}, {"model": "m", "words": "a"},
     {"model": "m", "words": []}, {"model": "m", "words": [1]}],
)  # fmt: skip
def test_damaged_entry_is_refused_by_name(entry):
    with pytest.raises(ValueError, match='"known_words" in the config.json of a file must be'):
        KnownWords.from_config({"known_words": entry}, "a file")
