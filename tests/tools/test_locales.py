"""Translations are found by their English text, and what is missing or stale is said."""

import json

import pytest

from lumina_next.tools import locales


def definition(**changes):
    return {
        "name": "LuminaNextTest",
        "display_name": "Test",
        "description": "Tests {this} | that.",
        "input": {"required": {"steps": ["INT", {"tooltip": "How.\nfast: few {of} them."}]}},
        "output": [],
        "output_name": [],
        "output_tooltips": [],
        **changes,
    }


NODES = {
    "LuminaNextTest": definition(),
    "LuminaNextZ": definition(name="LuminaNextZ", display_name="Z", description="Z's own."),
}
KNOWN = {
    "Test": "Prüfung",
    "Tests {this} | that.": "Prüft {dies} | das.",
    "steps": "Schritte",
    "How.": "Wie.",
    "few {of} them.": "wenige {davon}.",
    "Z": "Zett",
    "Z's own.": "Zetts.",
}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """One language, kept in a folder of the test's."""
    monkeypatch.setattr(locales, "LANGUAGES", ("de",))
    monkeypatch.setattr(locales, "TRANSLATIONS", tmp_path / "translations")
    monkeypatch.setattr(locales, "LOCALES", tmp_path / "locales")
    locales.add({"de": KNOWN})
    return tmp_path


def read(path):
    return json.loads(path.read_text("utf-8"))


def test_translations_stand_where_the_editor_reads_them(folder):
    assert locales.write(NODES) == {}
    assert read(folder / "locales" / "de" / "nodeDefs.json")["LuminaNextTest"] == {
        "display_name": "Prüfung",
        "description": "Prüft {'{'}dies{'}'} {'|'} das.",
        "inputs": {"steps": {"name": "Schritte", "tooltip": "Wie.\nfast: wenige {davon}."}},
    }
    assert locales.problems(NODES) == []


def test_a_text_of_two_nodes_stands_once_under_the_first(folder):
    locales.write(NODES)
    kept = read(folder / "translations" / "de.json")
    assert kept["LuminaNextZ"] == {"Z": "Zett", "Z's own.": "Zetts."}
    assert kept["LuminaNextTest"]["steps"] == "Schritte"


def test_changed_text_is_missing_and_the_old_one_stale(folder):
    changed = {**NODES, "LuminaNextTest": definition(display_name="Trial")}
    report = locales.write(changed)
    assert report == {
        "de": {"LuminaNextTest": {"Trial": ""}},
        "de, stale": {"Test": "Prüfung"},
    }
    assert "display_name" not in read(folder / "locales" / "de" / "nodeDefs.json")["LuminaNextTest"]
    assert locales.problems(changed) == ["de: 'Trial' is missing", "de: 'Test' is stale"]
    assert locales.write(NODES) == {}, "the stale translation was lost"


def test_report_that_is_filled_in_can_be_added(folder):
    changed = {**NODES, "LuminaNextTest": definition(display_name="Trial")}
    report = locales.write(changed)
    report["de"]["LuminaNextTest"]["Trial"] = "Versuch"
    locales.add(report)
    assert locales.write(changed, prune=True) == {}
    assert locales.problems(changed) == []


def test_half_a_translated_tooltip_is_left_out(folder):
    tooltip = {"tooltip": "How.\nfast: few {of} them.\nslow: more."}
    changed = {"LuminaNextTest": definition(input={"required": {"steps": ["INT", tooltip]}})}
    locales.write(changed)
    written = read(folder / "locales" / "de" / "nodeDefs.json")
    assert written["LuminaNextTest"]["inputs"]["steps"] == {"name": "Schritte"}


def test_file_that_was_not_written_is_out_of_date(folder):
    assert locales.problems(NODES) == ["de: locales/de/nodeDefs.json is out of date"]
