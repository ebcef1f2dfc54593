"""The last part of a fit: all numbers of a solver move together, by forward calls alone."""

import json
from math import ceil

import pytest
import torch

from lumina_next.lumina.solvers.fitted.solver import MEMORY, NEAR, FittedSolver
from lumina_next.lumina.solvers.fitting import Sets, polish
from lumina_next.lumina.solvers.fitting.pictures import distances
from lumina_next.lumina.solvers.fitting.polish import (
    Place,
    Polish,
    Run,
    best_changes,
    effects,
    euler,
    model_calls,
    moved,
    places,
    share,
    with_all_slopes,
)
from lumina_next.lumina.solvers.fitting.search import Search
from lumina_next.lumina.solvers.fitting.trajectories import Fine, fine_trajectories
from lumina_next.tests.support.flows import denoised, flow_pictures

SETS = Sets(12, 12, 4)
CALLS, ROUNDS = 5, 4
PART = slice(2, 5)


EULER = euler(CALLS)
# Weights of every length, as a search gives them.
SOLVER = FittedSolver(
    (1.0, 0.85, 0.65, 0.4, 0.2, 0.0),
    ((1.0,), (-0.4, 1.4), (0.1, -0.5, 1.4), (-0.1, 0.2, -0.5, 1.4), (0.1, -0.1, -0.3, 1.3)),
)
PLACES = places(SOLVER)


class Asked:
    """Counts the pictures that a model is asked for: all of them, and of those to fit by."""

    def __init__(self, limit=10**9):
        self.all, self.to_fit, self.limit = 0, 0, limit

    def __call__(self, part, x, sigma):
        self.all += len(x)
        self.to_fit += len(x) if part.start < SETS.fit else 0
        if self.all > self.limit:
            raise Stopped
        return denoised(x, sigma)


class Stopped(Exception):
    pass


def asking(asked):
    pictures = flow_pictures(SETS.total)
    pictures.answer = asked
    return pictures


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    return fine_trajectories(flow_pictures(SETS.total), SETS, tmp_path_factory.mktemp("fine"))


def polished(fine, folder, asked=None, solver=EULER, rounds=ROUNDS):
    folder.mkdir(exist_ok=True)
    return Polish(asking(asked or Asked()), fine, SETS, folder).best(solver, rounds)


def small_changes(products, damping):
    """Others for every damping, which no level crosses another by."""
    return products.new_full((products.shape[1] - 1,), 1e-4 * damping)


def mean_distance(solver, fine, rows):
    """As the host would draw: by the solver itself."""
    part = slice(rows.start, rows.stop)
    end = flow_pictures(SETS.total).drawn(part, solver, torch.tensor(solver.sigmas))
    return distances(end, fine.ends[part]).mean().item()


# A solver's numbers


def test_all_numbers_but_the_last_weights_and_the_ends_move():
    assert len(PLACES) == len(set(PLACES)) == (0 + 1 + 2 + 3 + 3) + (CALLS - 1)
    assert Place(0, 0) not in PLACES and Place(2, 2) not in PLACES
    assert Place(0, None) not in PLACES and Place(CALLS, None) not in PLACES


def test_moved_adds_what_it_is_given_and_keeps_sums_of_weights():
    changes = {place: 0.01 * (i + 1) for i, place in enumerate(PLACES)}
    other = moved(SOLVER, changes)
    for step, row in enumerate(other.weights):
        assert sum(row) == pytest.approx(1, abs=1e-12)
        for j, weight in enumerate(row[:-1]):
            assert weight == pytest.approx(SOLVER.weights[step][j] + changes[Place(step, j)])
    for level in range(1, CALLS):
        wanted = SOLVER.sigmas[level] + changes[Place(level, None)]
        assert other.sigmas[level] == pytest.approx(wanted)
    assert moved(SOLVER, {}) == SOLVER


@pytest.mark.parametrize("change", [0.15, -0.2, float("nan")])
def test_levels_that_cross_are_refused(change):
    with pytest.raises(ValueError, match="do not fall from 1 to 0"):
        moved(SOLVER, {Place(1, None): change})


def test_with_all_slopes_draws_the_same_picture():
    rows = ((1.0,), (1.0,), (-0.5, 1.5), (0.2, -0.6, 1.4), (-0.3, 1.3))
    solver = FittedSolver(SOLVER.sigmas, rows)
    wide = with_all_slopes(solver)
    assert [len(row) for row in wide.weights] == [min(k + 1, MEMORY) for k in range(CALLS)]
    pictures, sigmas = flow_pictures(), torch.tensor(solver.sigmas)
    drawn = [pictures.drawn(PART, one, sigmas) for one in (solver, wide)]
    assert torch.equal(*drawn)
    assert with_all_slopes(wide) == wide


# Runs


def test_run_ends_where_the_solver_itself_does():
    drawn = flow_pictures().drawn(PART, SOLVER, torch.tensor(SOLVER.sigmas))
    end = Run.of(flow_pictures(), PART, SOLVER).states[-1]
    torch.testing.assert_close(end, drawn)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_changed_run_is_a_new_one_for_fewer_calls(place):
    asked = Asked()
    run = Run.of(asking(asked), PART, SOLVER)
    before = list(run.states), list(run.slopes)
    other, asked.all = moved(SOLVER, {place: 0.02}), 0
    changed = run.changed(place, other)
    # A weight of a step changes the state after it, a level the state at it.
    new_states = CALLS - place.step - (place.weight is not None)
    assert asked.all == new_states * (PART.stop - PART.start)
    whole = Run.of(flow_pictures(), PART, other)
    assert len(changed.states) == CALLS + 1 and len(changed.slopes) == CALLS
    assert all(map(torch.equal, changed.states, whole.states))
    assert all(map(torch.equal, changed.slopes, whole.slopes))
    assert all(a is b for a, b in zip(run.states + run.slopes, sum(before, []), strict=True))


# What changes do


def exact_end(x, numbers):
    """Where SOLVER leads from x in float64, its numbers being those of PLACES in `numbers`."""
    given = dict(zip(PLACES, numbers, strict=True))
    levels = [given.get(Place(k, None), x.new_tensor(s)) for k, s in enumerate(SOLVER.sigmas)]
    slopes = []
    for k, row in enumerate(SOLVER.weights):
        slopes.append((x - denoised(x, levels[k])) / levels[k])
        free = [given[Place(k, j)] for j in range(len(row) - 1)]
        weights = [*free, 1 - sum(free)]
        used = slopes[len(slopes) - len(row) :]
        change = sum(weight * slope for weight, slope in zip(weights, used, strict=True))
        x = x + (levels[k + 1] - levels[k]) * change
    return x


def test_effects_are_the_derivatives_of_the_whole_run():
    pictures = flow_pictures()
    truth = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    numbers = torch.tensor(
        [SOLVER.sigmas[k] if j is None else SOLVER.weights[k][j] for k, j in PLACES],
        dtype=torch.float64,
    )
    x = pictures.noise[PART].double()
    jacobian = torch.autograd.functional.jacobian(lambda given: exact_end(x, given), numbers)
    off = exact_end(x, numbers) - truth.double()
    vectors = torch.cat([jacobian, off[..., None]], -1).flatten(1, 3)  # (n, pixels, P + 1)
    wanted = vectors.transpose(1, 2) @ vectors / vectors.shape[1]
    found = effects(pictures, PART, truth, SOLVER)
    assert found.dtype == torch.float64
    sizes = wanted.diagonal(dim1=1, dim2=2).sqrt()
    scale = sizes[:, :, None] * sizes[:, None]
    # A change that is not infinitely small is off by its own share.
    torch.testing.assert_close(found / scale, wanted / scale, atol=0.05, rtol=0)


@pytest.mark.parametrize("gaps", [(2.5, 100.0), (100.0, 2.5), (2.5, 2.5)], ids=str)
def test_levels_as_close_as_may_be_have_effects(gaps):
    high, low = (NEAR * gap for gap in gaps)
    solver = FittedSolver((1.0, 0.5 + high, 0.5, 0.5 - low, 0.0), ((1.0,),) * 4)
    found = effects(flow_pictures(), PART, torch.zeros(3, 1, 4, 4), solver)
    assert bool(found.isfinite().all())
    can_move = found.diagonal(dim1=1, dim2=2).mean(0)[:3] > 0
    assert can_move.tolist() == [True, gaps != (2.5, 2.5), True]


# The changes


def linear(rows, count, seed=0):
    """Products of pictures whose ends are linear in 3 numbers, with `answer` where none is off."""
    generator = torch.Generator().manual_seed(seed)
    derivatives = torch.randn(count, rows, 3, generator=generator, dtype=torch.float64)
    answer = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)
    noise = torch.randn(count, rows, generator=generator, dtype=torch.float64)
    return derivatives, noise, answer


def products_of(derivatives, off):
    vectors = torch.cat([derivatives, off[..., None]], -1)
    return vectors.transpose(1, 2) @ vectors / vectors.shape[1]


def test_linear_problem_is_solved():
    derivatives, _, answer = linear(20, 6)
    found = best_changes(products_of(derivatives, -derivatives @ answer), 0)
    torch.testing.assert_close(found, answer, atol=1e-6, rtol=0)


def test_mean_distance_and_not_the_mean_square_is_smallest():
    derivatives, noise, answer = linear(20, 8)
    off = -derivatives @ answer + noise * torch.arange(1, 9, dtype=torch.float64)[:, None]
    found = best_changes(products_of(derivatives, off), 0)

    def mean_of(changes):
        return (off + derivatives @ changes).square().mean(1).sqrt().mean().item()

    lowest = mean_of(found)
    for unit in torch.eye(3, dtype=torch.float64):
        assert lowest < mean_of(found + 0.03 * unit) and lowest < mean_of(found - 0.03 * unit)


def test_stray_picture_does_not_rule():
    derivatives, noise, answer = linear(20, 12)
    off = -derivatives @ answer + 0.05 * noise
    usual = best_changes(products_of(derivatives, off), 0)
    off[0] = -1000 * derivatives[0] @ torch.ones(3, dtype=torch.float64)
    products = products_of(derivatives, off)
    found = best_changes(products, 0)
    assert (found - usual).abs().max() < 0.1
    total = products.sum(0)
    squares = -torch.linalg.solve(total[:3, :3], total[:3, 3])
    assert (squares - usual).abs().max() > 10


def test_more_damping_goes_less_far():
    derivatives, noise, answer = linear(20, 6)
    products = products_of(derivatives, -derivatives @ answer + noise)
    lengths = [best_changes(products, damping).norm().item() for damping in (0, 0.1, 1, 10, 1e4)]
    assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) == 5
    assert lengths[-1] < 0.01 * lengths[0]


def test_numbers_that_change_nothing_stay():
    assert best_changes(torch.zeros(4, 4, 4, dtype=torch.float64), 1.0).tolist() == [0, 0, 0]


# The rounds


def test_polish_betters_what_the_search_found(fine, tmp_path):
    search = Search(asking(Asked()), fine, SETS, CALLS, 8, tmp_path / "search.json")
    found = search.best().solver
    best = polished(fine, tmp_path, solver=found)
    for rows in (range(SETS.fit), SETS.chosen):
        assert mean_distance(best, fine, rows) < 0.7 * mean_distance(found, fine, rows)


def test_round_goes_on_as_long_as_it_leads_nearer(fine, tmp_path, monkeypatch):
    foretold, tried = iter([5.0, 4.0, 3.0, 3.0, 1.0]), []
    monkeypatch.setattr(
        Polish,
        "_distance",
        lambda self, solver, rows: (tried.append(solver), next(foretold))[1],
    )
    monkeypatch.setattr(polish, "best_changes", small_changes)
    assert Polish(asking(Asked()), fine, SETS, tmp_path)._round(SOLVER, 0) == tried[2]
    assert tried[0] == SOLVER and len(set(tried)) == len(tried) == 4


def test_round_goes_less_far_where_the_usual_changes_make_levels_cross(fine, tmp_path):
    start = euler(8)
    products = effects(flow_pictures(SETS.total), slice(0, 4), fine.ends[:4], start)
    changes = dict(zip(places(start), best_changes(products, 1.0).tolist(), strict=True))
    with pytest.raises(ValueError):
        moved(start, changes)
    best = polished(fine, tmp_path, solver=start)
    fitted = range(SETS.fit)
    assert mean_distance(best, fine, fitted) < 0.95 * mean_distance(start, fine, fitted)


def test_no_round_is_taken_that_the_second_set_does_not_confirm(fine, tmp_path):
    rows = slice(SETS.chosen.start, SETS.chosen.stop)
    ends = fine.ends.clone()
    ends[rows] = Run.of(flow_pictures(SETS.total), rows, EULER).states[-1]
    other = Fine(fine.states, fine.slopes, ends)
    assert polished(other, tmp_path) == with_all_slopes(EULER)
    assert len(list(tmp_path.iterdir())) == ROUNDS  # which bettered the first set, all the same


def test_best_of_the_rounds_is_taken_and_not_the_last(fine, tmp_path, monkeypatch):
    rounds = [moved(with_all_slopes(EULER), {Place(2, None): change}) for change in (0.01, 0.02)]
    monkeypatch.setattr(Polish, "_round", lambda self, solver, number: rounds[number])
    rows = slice(SETS.chosen.start, SETS.chosen.stop)
    for wanted in rounds:
        ends = fine.ends.clone()
        ends[rows] = Run.of(flow_pictures(SETS.total), rows, wanted).states[-1]
        assert polished(Fine(fine.states, fine.slopes, ends), tmp_path, rounds=2) == wanted


def test_rounds_that_are_done_are_not_done_again(fine, tmp_path):
    first, again = Asked(), Asked()
    best = polished(fine, tmp_path, first)
    assert polished(fine, tmp_path, again) == best
    assert first.to_fit > 0 and again.to_fit == 0


def test_stopped_polish_goes_on_and_finds_the_same(fine, tmp_path):
    whole, one = Asked(), Asked()
    wanted = polished(fine, tmp_path / "whole", whole)
    polished(fine, tmp_path / "one", one, rounds=1)
    stopped, resumed = Asked(limit=whole.to_fit // 2), Asked()
    with pytest.raises(Stopped):
        polished(fine, tmp_path / "stopped", stopped)
    assert polished(fine, tmp_path / "stopped", resumed) == wanted
    assert resumed.to_fit <= whole.to_fit - one.to_fit


@pytest.mark.parametrize("content", ["", "[[1, 0.5", "[]", "[[1, 2, 0], [[1], [1]]]", "7", "\x00"])
def test_damaged_file_of_a_round_counts_as_none(fine, tmp_path, content):
    wanted = polished(fine, tmp_path)
    damaged = sorted(tmp_path.iterdir())[1]
    whole = json.loads(damaged.read_text())
    damaged.write_text(content)
    asked = Asked()
    assert polished(fine, tmp_path, asked) == wanted
    assert asked.to_fit > 0 and json.loads(damaged.read_text()) == whole


def test_rounds_of_other_noise_levels_are_not_taken_for_these(fine, tmp_path):
    other = FittedSolver(SOLVER.sigmas, EULER.weights)
    wanted = polished(fine, tmp_path / "alone", solver=other)
    polished(fine, tmp_path / "both")
    assert polished(fine, tmp_path / "both", solver=other) == wanted


def test_rounds_end_where_no_share_of_the_pictures_knows_better(fine, tmp_path, monkeypatch):
    numbers = []
    monkeypatch.setattr(
        Polish, "_round", lambda self, solver, number: (numbers.append(number), solver)[1]
    )
    assert polished(fine, tmp_path, rounds=10) == with_all_slopes(EULER)
    assert numbers == [0, 1, 2]


def test_solver_whose_pictures_run_away_ends_a_round_and_not_the_fit(fine, tmp_path, monkeypatch):
    monkeypatch.setattr(polish, "best_changes", lambda products, damping: products[0, 0, :-1] + 50)
    answer = Asked()
    pictures = asking(answer)
    # As in half precision: numbers too large are none.
    pictures.answer = lambda part, x, sigma: answer(part, x, sigma) / (x.abs() < 1000)
    monkeypatch.setattr(polish, "places", lambda solver: [Place(k, 0) for k in range(1, CALLS)])
    best = Polish(pictures, fine, SETS, tmp_path).best(EULER, 1)
    assert best == with_all_slopes(EULER)


# How much work it is


def test_shares_have_all_pictures_in_turn():
    for count in range(1, 101):
        shares = [share(count, number) for number in range(3)]
        assert set().union(*shares) == set(range(count))
        assert {len(rows) for rows in shares} == {ceil(count / 3)}
        assert [share(count, number) for number in range(3, 6)] == shares


@pytest.mark.parametrize("calls", [2, 3, 5, 9])
def test_model_calls_are_counted(fine, tmp_path, monkeypatch, calls):
    """Exactly, where every change that is tried is better than the one before."""
    falling = iter(range(1000, 0, -1))
    measured = Polish._distance
    monkeypatch.setattr(
        Polish, "_distance", lambda *given: (measured(*given), float(next(falling)))[1]
    )
    monkeypatch.setattr(polish, "best_changes", small_changes)
    asked, start = Asked(), moved(euler(calls), {Place(1, None): 0.01})
    polished(fine, tmp_path, asked, start, rounds=3)
    assert asked.all == model_calls(calls, SETS, 3)


@pytest.mark.parametrize("calls", [2, 5, 9])
def test_fewer_model_calls_are_made_than_counted(fine, tmp_path, calls):
    asked = Asked()
    polished(fine, tmp_path, asked, euler(calls))
    most = model_calls(calls, SETS, ROUNDS)
    assert 0.3 * most < asked.all <= most
