"""The report keeps what it does not try again, and says by its exit status whether all is well."""

import json
from types import SimpleNamespace

import pytest

from lumina_next.benchmarks.faults import report
from lumina_next.benchmarks.faults.tally import Tally, table
from lumina_next.tools.environment import ROOT


@pytest.fixture
def kinds(monkeypatch):
    """Two kinds in place of all; rows[kind]: what it finds."""
    rows = {"a": Tally("row a", 2, 2), "b": Tally("row b", 1, 1)}
    monkeypatch.setattr(report, "KINDS", {"a": ("a", 100), "b": ("b", 10)})
    monkeypatch.setattr(report.torch, "set_num_threads", lambda count: None)

    def import_module(name):
        kind = name.rpartition(".")[2]
        return SimpleNamespace(
            tallies=lambda count, seed: [asked.append((kind, count)), rows[kind]][1:]
        )

    asked = []
    monkeypatch.setattr(report.importlib, "import_module", import_module)
    return SimpleNamespace(rows=rows, asked=asked)


def made(path, *arguments):
    """The exit status of a report into this file."""
    with pytest.raises(SystemExit) as ended:
        report.main([*arguments, "--json", str(path)])
    return int(ended.value.code)


def test_kinds_that_are_not_asked_for_keep_their_results(kinds, tmp_path, capsys):
    path = tmp_path / "faults.json"
    assert made(path, "--share", "0.1") == 0
    kinds.rows["b"] = Tally("row b", 7, 7)
    assert made(path, "b") == 0
    assert kinds.asked == [("a", 10), ("b", 1), ("b", 10)]
    found = json.loads(path.read_text())["kinds"]
    assert [found[kind]["rows"][0]["tried"] for kind in ("a", "b")] == [2, 7]
    assert "| all | 9 | 9 | 0 | 0 |" in capsys.readouterr().out


@pytest.mark.parametrize("tally", [Tally("row b", 1, 0, 1), Tally("row b", 1, 0, 0, 1)])
def test_wrong_or_lost_is_a_failure(kinds, tmp_path, tally):
    kinds.rows["b"] = tally
    assert made(tmp_path / "faults.json") == 1


def test_page_shows_the_last_results():
    rows = report.tallies(report.read(report.RESULTS))
    assert table(rows) in (ROOT / "docs" / "robustness.md").read_text("utf-8")


def test_last_results_are_of_every_kind_and_nothing_was_wrong_or_lost():
    results = report.read(report.RESULTS)
    assert list(results["kinds"]) == list(report.KINDS)
    assert not [row for row in report.tallies(results) if row.wrong or row.lost]
