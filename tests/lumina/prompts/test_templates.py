"""Prompts in templates, cleaned where that is wanted, one for each line."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_next.lumina.prompts.templates import fill, prepared, split


def test_prompt_of_which_cleaning_leaves_nothing_says_so():
    assert (
        prepared("https://example.com/a.png", cleaning="all").note == "cleaning left nothing of it"
    )
    assert prepared("A cat", cleaning="all").note == 'cleaned to "a cat"'
    assert prepared("a cat", cleaning="all").note == prepared("A cat").note == ""
    assert len(prepared("A " + "cat " * 100, cleaning="all").note) < 120


@pytest.mark.parametrize("cleaning", ["off", "Latin text", "all"])
def test_cleaning_is_done_where_it_is_wanted(cleaning):
    def is_changed(text):
        return prepared(text, cleaning=cleaning).text != text

    assert is_changed("A Cat, ÉTÉ") == (cleaning != "off")
    assert is_changed("A 猫") == is_changed("Привет, Cat") == (cleaning == "all")


def test_template_says_the_prompt_wherever_it_has_a_place():
    assert fill("({prompt}:1.2), {x} {prompt}", "a {prompt} \\1") == (
        "(a {prompt} \\1:1.2), {x} a {prompt} \\1"
    )


def test_template_without_a_place_is_refused():
    with pytest.raises(ValueError, match="no {prompt}.*oil painting of {prompt}"):
        fill("an oil painting", "a cat")


def test_template_is_not_cleaned():
    given = "An OIL painting, {prompt} <Prompt Start>"
    assert prepared("Cat.png, A Dog", given, "all").text == "An OIL painting, a dog <Prompt Start>"


@given(st.text(string.printable))
def test_prompt_in_no_template_is_the_prompt(text):
    assert prepared(text).text == text
    assert split(text, one_per_line=False) == [text]


def test_lines_are_prompts():
    assert split(" a cat \r\n\n\t\na dog", one_per_line=True) == ["a cat", "a dog"]
    assert split("\n \n", one_per_line=True) == split("", one_per_line=True) == [""]
