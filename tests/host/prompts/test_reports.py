"""What the node says of the prompts it encoded."""

import logging

import pytest

from lumina_next.tests.support import tiny
from lumina_next.tests.support.text_encode import CAT, DOG, both, tokens


def test_tokens_of_both_prompts_are_shown(clip, shown):
    both(clip, DOG, "")
    assert shown == [f"positive: {tokens(DOG)} of 256 tokens; negative: 1"]


def test_tokens_of_a_batch_are_shown(clip, shown):
    both(clip, f"{CAT}\n{DOG}", f"{CAT}\n\n{CAT}", batch=True)
    assert shown == [
        f"positive: {tokens(CAT)} to {tokens(DOG)} of 256 tokens; negative: {tokens(CAT)}\n"
        "2 prompts: give the latent a batch_size of 2"
    ]


@pytest.mark.parametrize("place", ["positive", "negative"])
def test_what_was_cut_off_is_shown(clip, shown, place):
    words = (tiny.WORDS * 30)[:400]
    text = " ".join(words)
    prompts = {"positive": CAT, "negative": CAT, place: text}
    found = both(clip, **prompts)
    assert {"positive": found[0], "negative": found[1]}[place][0][0].shape[1] == 256
    counts, cut = shown[-1].split("\n")
    assert f"{place}: {tokens(text)}" in counts
    assert cut.startswith(f"{place}: The prompt has {tokens(text)} tokens")
    (begin,) = cut.split('from "')[1:]
    begin = begin.split(' ..."')[0].split(" ")
    fitting = max(n for n in range(401) if tokens(" ".join(words[:n])) <= 256)
    assert begin[:8] == words[fitting : fitting + 8]


def test_cut_line_of_a_batch_is_named(clip, shown):
    both(clip, f"{CAT}\n{'cat ' * 300}", batch=True)
    assert "positive 2: The prompt has " in shown[-1] and "positive 1" not in shown[-1]


def test_cut_is_logged_once_and_shown_once(clip, shown, caplog):
    with caplog.at_level(logging.INFO):
        both(clip, "cat " * 300)
    (logged,) = [record for record in caplog.records if "cut off" in record.getMessage()]
    assert logged.levelno == logging.WARNING and shown == [logged.getMessage()]
    assert shown[0].count("cut off") == 1


def test_missing_embedding_is_shown_beside_the_lengths(clip, shown):
    both(clip, "a cat embedding:nobody")
    (text,) = shown
    assert "256 tokens" in text and 'positive: There is no embedding "nobody"' in text


def test_many_remarks_are_counted(clip, shown):
    both(clip, "A Cat\n" * 20, batch=True, cleaning="all")
    assert shown[-1].count("cleaned to") == 6 and shown[-1].endswith("and so on, 14 more")


def test_prompt_that_just_fits_is_not_cut(clip, shown):
    text = "a"
    while tokens(text + " a") <= 256:
        text += " a"
    assert tokens(text) == 256
    both(clip, text)
    assert shown == ["positive: 256 of 256 tokens; negative: 1"]


def test_text_without_spaces_is_cut_at_a_letter(clip, shown):
    both(clip, "猫" * 300)
    assert 'from "猫猫' in shown[-1]


def test_long_prompt_is_tokenized_once(clip, shown, monkeypatch):
    from lumina_next.host.prompts.vocabulary import SentencePieceTokenizer

    read, spans = [], SentencePieceTokenizer.spans
    monkeypatch.setattr(
        SentencePieceTokenizer, "spans", lambda self, text: read.append(text) or spans(self, text)
    )
    both(clip, "a cat " * 1000)
    assert read == ["a cat " * 1000]
    assert "cut off" in shown[-1]
