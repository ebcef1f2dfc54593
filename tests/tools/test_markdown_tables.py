"""Tables are written between their marks, in the language of the page."""

import json

import pytest

from lumina_next.tools import locales, markdown_tables
from lumina_next.tools.markdown_tables import HelpPage, Words, help_pages, outdated_pages, table

PAGE = (
    "# A page\n<!-- made by tools/ours.py: list -->\n<!-- end -->\n"
    "<!-- made by tools/other.py: list -->\nkept\n<!-- end -->\n"
)


@pytest.fixture
def german(monkeypatch, tmp_path):
    """A language with one word from the nodes and one of the pages."""
    monkeypatch.setattr(locales, "TRANSLATIONS", tmp_path / "translations")
    monkeypatch.setattr(markdown_tables, "WORDS", tmp_path / "translations" / "pages")
    (tmp_path / "translations" / "pages").mkdir(parents=True)
    (tmp_path / "translations" / "de.json").write_text(json.dumps({"Node": {"steps": "Schritte"}}))
    (tmp_path / "translations" / "pages" / "de.json").write_text(json.dumps({"Input": "Eingang"}))


@pytest.fixture
def pages(tmp_path):
    """A folder with one page in two languages."""
    folder = tmp_path / "docs"
    (folder / "Node").mkdir(parents=True)
    for path in (folder / "Node.md", folder / "Node" / "de.md"):
        path.write_text(PAGE)
    return folder


def make(page, name, words):
    return f"{page.node} {name} {words('Input')}: {words('steps')}\n"


def test_pages_are_found_by_node_and_language(pages):
    assert [(page.node, page.language) for page in help_pages(pages)] == [
        ("Node", "de"),
        ("Node", None),
    ]


def test_only_the_tables_of_the_script_are_made(pages, german):
    made = {path.name: text for path, text in outdated_pages(pages, "ours.py", make)}
    english = "<!-- made by tools/ours.py: list -->\nNode list Input: steps\n<!-- end -->"
    assert english in made["Node.md"] and "\nkept\n" in made["Node.md"]
    assert "Node list Eingang: Schritte\n" in made["de.md"]


def test_page_that_is_as_it_should_be_is_not_named(pages, german):
    for path, text in list(outdated_pages(pages, "ours.py", make)):
        path.write_text(text)
    assert list(outdated_pages(pages, "ours.py", make)) == []


def test_texts_without_a_translation_are_listed(pages, german):
    def unknown(page, name, words):
        return words("Default") + words("Values")

    with pytest.raises(
        ValueError, match=r'(?s)no translation.*\{\s*"de": \{\s*"Default": "",\s*"Val'
    ):
        list(outdated_pages(pages, "ours.py", unknown))


def test_lines_and_names_of_choices_are_kept_in_a_translation(german):
    words = Words("de")
    assert words("Input\nfast: steps") == "Eingang\nfast: Schritte"
    assert words.missing == {}


def test_a_bar_in_a_cell_does_not_end_it():
    assert table(["a"], [["b|c"]]) == "| a |\n| --- |\n| b\\|c |\n"


def test_a_page_knows_where_it_is(pages):
    assert HelpPage(pages / "Node.md", "Node", None) in help_pages(pages)
