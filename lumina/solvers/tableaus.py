"""Explicit Runge-Kutta rules as Butcher tableaus, checked when this file is imported.

They are drawn as in the textbooks (Hairer, Norsett, Wanner, Solving Ordinary Differential Equations
I) and held, in exact fractions, against every order condition of the order they claim.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property

Tree = tuple["Tree", ...]  # a rooted tree is its branches; () is a single vertex


@dataclass(frozen=True)
class ButcherTableau:
    """An explicit Runge-Kutta rule in exact numbers.

    Stage i is taken at the share c[i] of the step, reached by the slopes before it times a[i]; the
    step is the slopes times b. b_embedded: weights of one order less, whose distance from b
    estimates the error. Raises ValueError if the numbers are no rule of that order.
    """

    order: int
    c: tuple[Fraction, ...]
    a: tuple[tuple[Fraction, ...], ...]
    b: tuple[Fraction, ...]
    b_embedded: tuple[Fraction, ...] | None = None

    @classmethod
    def drawn(cls, order: int, drawing: str) -> "ButcherTableau":
        """From the usual drawing: c left of the bar, a right of it, the weights below."""
        lines = [line.split("|") for line in drawing.strip().splitlines()]
        rows = [(left.strip(), _fractions(right)) for left, right in lines]
        stages = [(Fraction(left), right) for left, right in rows if left]
        weights = [right for left, right in rows if not left]
        c, a = zip(*stages, strict=True)
        return cls(order, c, a, *weights)

    def __post_init__(self) -> None:
        for i, (c, row) in enumerate(zip(self.c, self.a, strict=True)):
            if len(row) != i:
                raise ValueError(f"Stage {i} uses {len(row)} slopes; explicit, it has {i} to use.")
            if sum(row) != c:
                raise ValueError(f"The row of stage {i} sums to {sum(row)}, its c is {c}.")
            if i and c <= 0:
                raise ValueError(f"Stage {i} must lie after the start of the step, its c is {c}.")
        self._check_order(self.b, self.order)
        if self.b_embedded is not None:
            self._check_order(self.b_embedded, self.order - 1)

    def _check_order(self, b: Sequence[Fraction], order: int) -> None:
        """Butcher's order conditions: one for each rooted tree of up to `order` vertices."""
        for vertices in range(1, order + 1):
            for tree in rooted_trees(vertices):
                found = sum(w * s for w, s in zip(b, self._elementary(tree), strict=True))
                if found != Fraction(1, density(tree)):
                    raise ValueError(
                        f"The weights are not of order {order}: their condition for the tree "
                        f"{tree} gives {found}, not 1/{density(tree)}."
                    )

    def _elementary(self, tree: Tree) -> list[Fraction]:
        """What each stage contributes to the condition of `tree`, before the weights."""
        branches = [self._elementary(branch) for branch in tree]
        # Rows end where the explicit rule does, so zip stops there.
        sums = [[sum(w * s for w, s in zip(row, at)) for row in self.a] for at in branches]  # noqa: B905
        return [math.prod((s[i] for s in sums), start=Fraction(1)) for i in range(len(self.a))]

    @property
    def stages(self) -> int:
        return len(self.c)

    @cached_property
    def later_stages(self) -> list[tuple[float, list[float]]]:
        """(c, row of a) of each stage after the first, as floats."""
        rows = zip(self.c[1:], self.a[1:], strict=True)
        return [(float(c), [float(w) for w in row]) for c, row in rows]

    @cached_property
    def weights(self) -> list[float]:
        return [float(w) for w in self.b]

    @cached_property
    def error_weights(self) -> list[float]:
        """Slopes times these, times the step: the estimated error of the step."""
        return [float(w - v) for w, v in zip(self.b, self.b_embedded or self.b, strict=True)]


def _fractions(text: str) -> tuple[Fraction, ...]:
    return tuple(Fraction(word) for word in text.split())


@cache
def rooted_trees(vertices: int) -> frozenset[Tree]:
    """Every rooted tree with that many vertices."""
    if vertices == 1:
        return frozenset({()})
    return frozenset(tree for smaller in rooted_trees(vertices - 1) for tree in _grown(smaller))


def _grown(tree: Tree) -> list[Tree]:
    """`tree` with one more leaf, in every place."""
    grown = [(*tree, ())]
    for i, branch in enumerate(tree):
        grown += [(*tree[:i], taller, *tree[i + 1 :]) for taller in _grown(branch)]
    return [tuple(sorted(branches)) for branches in grown]


def _size(tree: Tree) -> int:
    return 1 + sum(map(_size, tree))


def density(tree: Tree) -> int:
    """Its number of vertices times those of every branch, branch of a branch, and so on."""
    return _size(tree) * math.prod(map(density, tree))


TABLEAUS = {
    "euler": ButcherTableau.drawn(
        1,
        """
        0   |
            | 1
        """,
    ),
    "midpoint": ButcherTableau.drawn(
        2,
        """
        0   |
        1/2 | 1/2
            | 0    1
        """,
    ),
    "heun": ButcherTableau.drawn(
        2,
        """
        0   |
        1   | 1
            | 1/2  1/2
        """,
    ),
    # Of all second-order rules with two stages, the one with the smallest error bound.
    "ralston": ButcherTableau.drawn(
        2,
        """
        0   |
        2/3 | 2/3
            | 1/4  3/4
        """,
    ),
    "bosh3": ButcherTableau.drawn(
        3,
        """
        0   |
        1/2 | 1/2
        3/4 | 0    3/4
            | 2/9  1/3  4/9
        """,
    ),
    # torchdiffeq's "rk4", hence that of Lumina-Next's released code: Kutta's 3/8 rule.
    "rk4": ButcherTableau.drawn(
        4,
        """
        0   |
        1/3 | 1/3
        2/3 | -1/3  1
        1   | 1    -1    1
            | 1/8  3/8  3/8  1/8
        """,
    ),
    "rk4_classic": ButcherTableau.drawn(
        4,
        """
        0   |
        1/2 | 1/2
        1/2 | 0    1/2
        1   | 0    0    1
            | 1/6  1/3  1/3  1/6
        """,
    ),
}

DOPRI5 = ButcherTableau.drawn(
    5,
    """
    0    |
    1/5  | 1/5
    3/10 | 3/40        9/40
    4/5  | 44/45      -56/15       32/9
    8/9  | 19372/6561 -25360/2187  64448/6561 -212/729
    1    | 9017/3168  -355/33      46732/5247  49/176   -5103/18656
    1    | 35/384      0           500/1113    125/192  -2187/6784     11/84
         | 35/384      0           500/1113    125/192  -2187/6784     11/84     0
         | 5179/57600  0           7571/16695  393/640  -92097/339200  187/2100  1/40
    """,
)
