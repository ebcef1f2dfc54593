"""The help pages say what the code says: every table in them is the one that is made from it."""

import importlib
import re

import pytest

from lumina_next.tools.environment import ROOT

PAGE = "# A page\n\n<!-- made by tools/help_pages.py: {} -->\n{}<!-- end -->\n\nThe rest.\n"


@pytest.fixture
def help_pages(monkeypatch):
    """The script, which runs from the repository root and imports `lumina` by plain name."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("tools.help_pages")


@pytest.fixture
def english(help_pages):
    """The words of English tables."""
    return help_pages.Words(None)


def test_pages_are_up_to_date(help_pages):
    help_pages.main(["--check"])


@pytest.mark.parametrize("pages", ["*.md", "*/zh.md"])
def test_every_table_stands_in_a_page_of_each_language(help_pages, pages):
    texts = "".join(page.read_text("utf-8") for page in help_pages.PAGES.glob(pages))
    names = re.findall(r"<!-- made by tools/help_pages\.py: (.+?) -->", texts)
    assert sorted(names) == sorted(help_pages.TABLES)
    assert texts.count("<!-- made by") == texts.count("<!-- end -->")


def test_tables_have_as_many_cells_in_every_row(help_pages, english):
    for name, made in help_pages.TABLES.items():
        rows = made(english).splitlines()
        assert len(rows) > 2, name
        assert len({row.count(" | ") for row in rows}) == 1, name


def test_outdated_page_is_named_and_written_anew(help_pages, english, monkeypatch, tmp_path):
    monkeypatch.setattr(help_pages, "PAGES", tmp_path)
    page = tmp_path / "Node.md"
    page.write_text(PAGE.format("presets", "| old |\n"))
    with pytest.raises(SystemExit, match="Out of date: .*/Node.md"):
        help_pages.main(["--check"])
    assert "| old |" in page.read_text()
    help_pages.main([])
    assert page.read_text() == PAGE.format("presets", help_pages.presets(english))
    help_pages.main(["--check"])


def test_changed_preset_shows_in_the_page(help_pages, english, monkeypatch):
    from lumina.solvers.plans import PRESETS, Plan

    assert "| Fast | 10 | `sigmoid` | `euler` | 10 |" in help_pages.presets(english)
    monkeypatch.setitem(PRESETS, "Fast", Plan(7, "uniform", "midpoint"))
    assert "| Fast | 7 | `uniform` | `midpoint` | 14 |" in help_pages.presets(english)


def test_unknown_table_is_refused(help_pages, monkeypatch, tmp_path):
    monkeypatch.setattr(help_pages, "PAGES", tmp_path)
    (tmp_path / "Node.md").write_text(PAGE.format("recipes", ""))
    with pytest.raises(ValueError, match='no table "recipes"; there are: schedules'):
        help_pages.main([])
