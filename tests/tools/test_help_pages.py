"""The help pages say what the code says: every table in them is the one that is made from it."""

import importlib

import pytest

from lumina_next.tools.environment import ROOT

PAGE = "# A page\n\n<!-- made by tools/help_pages.py: {} -->\n{}<!-- end -->\n\nThe rest.\n"


@pytest.fixture
def help_pages(monkeypatch):
    """The script, which runs from the repository root and imports `lumina` by plain name."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("tools.help_pages")


def test_pages_are_up_to_date(help_pages):
    help_pages.main(["--check"])


def test_every_table_stands_in_a_page(help_pages):
    pages = "".join(page.read_text("utf-8") for page in help_pages.PAGES.rglob("*.md"))
    assert {name for _, name, _ in help_pages.MARKED.findall(pages)} == help_pages.TABLES.keys()
    assert pages.count("<!-- made by") == pages.count("<!-- end -->") == len(help_pages.TABLES)


def test_tables_have_as_many_cells_in_every_row(help_pages):
    for name, made in help_pages.TABLES.items():
        rows = made().splitlines()
        assert len(rows) > 2, name
        assert len({row.count(" | ") for row in rows}) == 1, name


def test_outdated_page_is_named_and_written_anew(help_pages, monkeypatch, tmp_path):
    monkeypatch.setattr(help_pages, "PAGES", tmp_path)
    page = tmp_path / "Node.md"
    page.write_text(PAGE.format("presets", "| old |\n"))
    with pytest.raises(SystemExit, match="Out of date: Node.md"):
        help_pages.main(["--check"])
    assert "| old |" in page.read_text()
    help_pages.main([])
    assert page.read_text() == PAGE.format("presets", help_pages.presets())
    help_pages.main(["--check"])


def test_changed_limit_shows_in_the_page(help_pages, monkeypatch):
    from lumina.parameters import Parameter
    from lumina.schedules import SCHEDULES

    text = help_pages.with_tables(PAGE.format("schedule parameters", ""))
    assert "| `sigmoid`, `sigmoid_map` | **mu** | 0.6 | 0 to 1 | Where the steps" in text
    mu = Parameter(0.5, 0.1, 0.9, "Where.")
    monkeypatch.setitem(SCHEDULES["sigmoid"].parameters, "mu", mu)
    text = help_pages.with_tables(text)
    assert "| `sigmoid`, `sigmoid_map` | **mu** | 0.5 | 0.1 to 0.9 | Where. |" in text


def test_unknown_table_is_refused(help_pages):
    with pytest.raises(ValueError, match='no table "recipes"; there are: schedules'):
        help_pages.with_tables(PAGE.format("recipes", ""))
