"""The table counts each case once and adds up."""

from lumina_next.benchmarks.faults.tally import KEPT, Tally, table


def counted(name, *cases):
    tally = Tally(name)
    for problem, lost in cases:
        tally.count(problem, lost=lost)
    return tally


def test_case_is_right_wrong_or_lost():
    tally = counted("x", (None, False), ("a", False), ("b", True), (None, True))
    assert (tally.tried, tally.right, tally.wrong, tally.lost) == (4, 2, 1, 1)
    assert tally.problems == ["a", "b"]


def test_problems_are_counted_beyond_those_that_are_kept():
    tally = counted("x", *[("a", False)] * (KEPT + 3))
    assert tally.wrong == KEPT + 3 and len(tally.problems) == KEPT


def test_table_ends_with_the_sums():
    rows = counted("x", *[(None, False)] * 1200), counted("y", ("a", False), ("b", True))
    assert table(rows).splitlines()[2:] == [
        "| x | 1,200 | 1,200 | 0 | 0 |",
        "| y | 2 | 0 | 1 | 1 |",
        "| all | 1,202 | 1,200 | 1 | 1 |",
    ]
