"""The comparison of step caches: a line of its table is what the runs give."""

import importlib

import pytest


@pytest.fixture
def caching():
    return importlib.import_module("benchmarks.caching")


def test_line_has_every_column_as_a_share(caching):
    row = caching.Row("TeaCache 0.3", 0.34, 0.43, 0.035, 0.955, 0.75)
    assert str(row) == "| TeaCache 0.3 | 34.0% | 43.0% | 3.5% | 95.5% | 75.0% |"


def test_runs_start_at_nothing_each(caching):
    first, second = caching.Runs(), caching.Runs()
    first.latents.append("one")
    assert second.latents == [] and second.passes == second.seconds == 0
