"""Pieces so small that every tensor of the tests has several."""

import pytest

from lumina_next.lumina.checkpoints.convert import streams


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(streams, "PIECE", 64)
