"""Killed and starved packings: a few of each are right, and a broken one would be noticed."""

import signal

import pytest

from lumina_next.benchmarks.faults.writing import full_disks, kills
from lumina_next.benchmarks.faults.writing.packing import Packing
from lumina_next.lumina.checkpoints.convert import disk, pack, writing


@pytest.fixture
def packing(tmp_path):
    found = Packing(tmp_path)
    pack.pack(found.folder, found.file)
    found.whole = found.file.read_bytes()
    return found


def write_in_place(monkeypatch):
    """As a program that writes straight into the file would."""
    monkeypatch.setattr(disk, "_open_nameless", lambda folder: None)
    monkeypatch.setattr(writing, "atomic_write", lambda file, overwrite: file.open("wb"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kills, full_disks])
def test_nothing_is_wrong_or_lost(kind):
    tallies = list(kind.tallies(4, seed=3))
    assert tallies and all(tally.tried == tally.right == 2 for tally in tallies)


def test_part_of_a_file_is_noticed_after_a_limit(packing, monkeypatch):
    write_in_place(monkeypatch)
    tally = full_disks.tried("x", packing, 2, full_disks.limited)
    assert tally.wrong == 2, tally


@pytest.mark.slow
def test_part_of_a_file_is_noticed_after_a_kill(packing, monkeypatch):
    write_in_place(monkeypatch)
    monkeypatch.setattr(writing.SourceFiles, "check_unchanged", lambda *given: signal.pause())
    monkeypatch.setattr(pack, "pieces_of", lambda *given: [(0, b"a part")])
    problem, lost = kills.killed(packing, signal.SIGKILL, 0.5, kills.OLD, is_nameless=True)
    assert "neither the old one nor the whole" in problem and not lost
