"""Counts of what was tried, and the table of them."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

KEPT = 20  # problems of one row that are written down
SHOWN = 500  # characters of a problem that are shown at once


@dataclass
class Tally:
    """One row of the table. problems: what was wrong or lost, the first of them in words."""

    name: str
    tried: int = 0
    right: int = 0
    wrong: int = 0
    lost: int = 0
    problems: list[str] = field(default_factory=list)

    def count(self, problem: str | None, *, lost: bool = False) -> None:
        """Add one case. problem: what was wrong with it; None if it was right."""
        self.tried += 1
        self.right += problem is None
        self.lost += problem is not None and lost
        self.wrong += problem is not None and not lost
        if problem is not None:
            print(f"{self.name}: {problem[:SHOWN]}", file=sys.stderr, flush=True)
            self.problems = [*self.problems, problem][:KEPT]


def table(tallies: Iterable[Tally]) -> str:
    """The rows in Markdown, and a last one with the sums."""
    rows = list(tallies)
    total = Tally("all", *(sum(getattr(row, name) for row in rows) for name in COUNTS))
    lines = ["| What | Tried | Right | Wrong | Lost |", f"|{' --- |' * 5}"]
    lines += [
        f"| {row.name} | " + " | ".join(f"{getattr(row, name):,}" for name in COUNTS) + " |"
        for row in [*rows, total]
    ]
    return "\n".join(lines)


COUNTS = ("tried", "right", "wrong", "lost")
