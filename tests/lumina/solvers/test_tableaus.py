"""Every tableau against all order conditions of Butcher, and what a tableau refuses.

A Runge-Kutta rule is of an order if its weights fulfil one condition for each rooted tree of up to
so many vertices. A tree is the tuple of its branches; () is a single vertex.
"""

import dataclasses
import itertools
import math
from fractions import Fraction
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from lumina_next.lumina.solvers.tableaus import TABLEAUS, ButcherTableau

NAMES = sorted(TABLEAUS)
ADAPTIVE = [name for name in NAMES if TABLEAUS[name].is_adaptive]


@cache
def rooted_trees(vertices):
    if vertices == 1:
        return frozenset({()})
    return frozenset(tree for smaller in rooted_trees(vertices - 1) for tree in grown(smaller))


def grown(tree):
    """`tree` with one more leaf, in every place."""
    trees = [(*tree, ())]
    for i, branch in enumerate(tree):
        trees += [(*tree[:i], taller, *tree[i + 1 :]) for taller in grown(branch)]
    return [tuple(sorted(branches)) for branches in trees]


def size(tree):
    return 1 + sum(map(size, tree))


def density(tree):
    """Its number of vertices times those of every branch, branch of a branch, and so on."""
    return size(tree) * math.prod(map(density, tree))


def elementary(tree, a):
    """What each stage contributes to the condition of `tree`, before the weights."""
    branches = [elementary(branch, a) for branch in tree]
    # Rows end where the explicit rule does, so zip stops there.
    sums = [[sum(w * s for w, s in zip(row, at)) for row in a] for at in branches]  # noqa: B905
    return [math.prod((s[i] for s in sums), start=Fraction(1)) for i in range(len(a))]


def order(tableau, b):
    """The highest order all of whose conditions the weights `b` fulfil; no more than 6 is tried."""

    def fulfills(tree):
        stages = elementary(tree, tableau.a)
        return sum(w * s for w, s in zip(b, stages, strict=True)) == Fraction(1, density(tree))

    orders = range(1, 7)
    return next(n for n in orders if not all(map(fulfills, rooted_trees(n)))) - 1


@pytest.mark.parametrize("name", NAMES)
def test_tableau_is_of_the_order_it_says(name):
    tableau = TABLEAUS[name]
    assert order(tableau, tableau.b) == tableau.order


@pytest.mark.parametrize("name", ADAPTIVE)
def test_embedded_weights_are_of_one_order_less(name):
    tableau = TABLEAUS[name]
    assert order(tableau, tableau.b_embedded) == tableau.order - 1


def coefficients(tableau):
    """(field, row or None, column) of every number in it."""
    yield from (("a", i, j) for i, row in enumerate(tableau.a) for j in range(len(row)))
    yield from ((key, None, j) for key in ("b", "c") for j in range(tableau.stages))


def changed(tableau, place, change):
    """The tableau with `change` added to the number at that place."""
    key, i, j = place
    rows = [list(row) for row in (tableau.a if key == "a" else [getattr(tableau, key)])]
    rows[i or 0][j] += change
    rows = tuple(map(tuple, rows))
    return dataclasses.replace(tableau, **{key: rows if key == "a" else rows[0]})


@given(st.sampled_from(NAMES), st.fractions(-2, 2).filter(bool), st.data())
def test_one_wrong_coefficient_is_noticed(name, change, data):
    tableau = TABLEAUS[name]
    place = data.draw(st.sampled_from(list(coefficients(tableau))))
    if place[0] == "b":
        wrong = changed(tableau, place, change)
        assert order(wrong, wrong.b) < tableau.order
    else:  # a row and its sum no longer agree
        with pytest.raises(ValueError):
            changed(tableau, place, change)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"euler", "heun"}))
def test_exchanged_weights_are_noticed(name):
    """Their sum is still right: only the conditions of higher order tell."""
    tableau = TABLEAUS[name]
    for i, j in itertools.combinations(range(tableau.stages), 2):
        b = list(tableau.b)
        b[i], b[j] = b[j], b[i]
        # The two stages in the middle of rk4_classic lie at the same place.
        if tuple(b) != tableau.b and tableau.c[i] != tableau.c[j]:
            assert order(tableau, b) < tableau.order


def test_there_are_as_many_rooted_trees_as_known():
    assert [len(rooted_trees(n)) for n in range(1, 8)] == [1, 1, 2, 4, 9, 20, 48]


def test_density_of_the_tallest_tree_is_a_factorial():
    assert density(((((),),),)) == 24
    assert density(((), (), ())) == 4


def test_refusal_says_which_row_is_wrong():
    with pytest.raises(ValueError, match="row of stage 1 sums to 1/3, its c is 1/2"):
        ButcherTableau.drawn(2, "0 |\n 1/2 | 1/3\n | 0 1")


def test_implicit_rule_is_refused():
    with pytest.raises(ValueError, match="Stage 1 uses 2 slopes; explicit, it has 1"):
        ButcherTableau.drawn(2, "0 |\n 1 | 1/2 1/2\n | 1/2 1/2")


def test_stage_at_the_start_of_the_step_is_refused():
    with pytest.raises(ValueError, match="Stage 1 must lie after the start"):
        ButcherTableau.drawn(1, "0 |\n 0 | 0\n | 1/2 1/2")


def test_dopri5_has_the_tableau_of_torchdiffeq():
    from torchdiffeq._impl.dopri5 import _DORMAND_PRINCE_SHAMPINE_TABLEAU as theirs

    ours = TABLEAUS["dopri5"]
    for (c, row), alpha, beta in zip(ours.later_stages, theirs.alpha, theirs.beta, strict=True):
        assert_close(torch.tensor(c).double(), alpha)
        assert_close(torch.tensor(row).double(), beta)
    assert_close(torch.tensor(ours.weights).double(), theirs.c_sol)
    assert ours.a[-1] == ours.b[:-1]  # the last slope is the first of the next step


@pytest.mark.parametrize("name", NAMES)
def test_rule_is_described(name):
    tableau = TABLEAUS[name]
    assert tableau.use.endswith(".") and tableau.source and tableau.other_names


def test_formula_leaves_out_what_counts_for_nothing():
    assert TABLEAUS["midpoint"].formula.splitlines() == [
        "k1 = v(sigma, x)",
        "k2 = v(sigma + 1/2 h, x + h (1/2 k1))",
        "x + h (k2)",
    ]
