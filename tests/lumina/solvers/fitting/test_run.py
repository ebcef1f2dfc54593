"""The fit as a whole, on a flow with a known answer: better than Euler, kept when it is stopped."""

import os

import pytest
import torch

from lumina_next.lumina.schedules import SCHEDULES
from lumina_next.lumina.solvers import SOLVERS
from lumina_next.lumina.solvers.fitting import MIN_PROMPTS, Effort, Sets, Work, fit
from lumina_next.lumina.solvers.fitting.run import check_prompts, in_sets
from lumina_next.tests.support.flows import SETS, flow_pictures

EFFORT = Effort(SETS, 8, 4)


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "solver.json", "a model and its prompts")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    return fit(flow_pictures(), EFFORT, [4, 6], folder)


@pytest.mark.parametrize("calls", [4, 6])
def test_fitted_solver_is_much_better_than_sigmoid_euler(fitted, calls):
    found = fitted[calls]
    assert found.solver.calls == calls and found.is_better
    assert found.errors.mean < 0.5 * found.others["euler, sigmoid"].mean


def test_more_calls_are_more_exact(fitted):
    assert fitted[6].errors.mean < fitted[4].errors.mean


def test_reported_errors_are_those_of_the_solver(fitted):
    pictures, found = flow_pictures(), fitted[4]
    rows = slice(SETS.reported.start, SETS.reported.stop)
    drawn = pictures.drawn(rows, found.solver, torch.tensor(found.solver.sigmas))
    fine = pictures.drawn(rows, SOLVERS["rk4_classic"], SCHEDULES["uniform"](60))
    off = (drawn - fine).flatten(1).square().mean(1).sqrt()
    assert found.errors.worst == pytest.approx(off.max().item(), rel=1e-4)
    assert found.errors.mean == pytest.approx(off.mean().item(), rel=1e-4)


class Stopped(Exception):
    pass


class Budget:
    """Counts model calls, and raises when there are `limit` of them."""

    def __init__(self, limit=10**9):
        self.limit, self.used = limit, 0

    def __call__(self, pictures):
        self.used += pictures
        if self.used >= self.limit:
            raise Stopped


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_stopped_fit_goes_on_and_finds_the_same(work, fitted, share):
    asked = []
    whole = flow_pictures()
    counted(whole, asked)
    with work.kept() as folder:
        fit(whole, EFFORT, [4], folder)
    total = sum(asked)
    stopped = flow_pictures(tick=Budget(share * total))
    with pytest.raises(Stopped), work.kept() as folder:
        fit(stopped, EFFORT, [4], folder)
    assert os.path.isdir(work.folder)
    asked.clear()
    resumed = flow_pictures()
    counted(resumed, asked)
    with work.kept() as folder:
        found = fit(resumed, EFFORT, [4], folder)
    assert found[4] == fitted[4]
    assert sum(asked) < total
    assert not work.folder.exists()


@pytest.mark.parametrize(
    ("effort", "calls"),
    [
        (EFFORT, [4, 6]),
        (Effort(SETS, 2, 1), [2]),
        (Effort(SETS, 2, 0), [9]),
        (Effort(SETS, 1, 0), [3]),
    ],
    ids=str,
)
def test_work_is_never_more_than_foretold(tmp_path, effort, calls):
    asked, pictures = [], flow_pictures()
    counted(pictures, asked)
    fit(pictures, effort, calls, tmp_path)
    most = effort.picture_calls(calls, sum(calls))  # euler by the sigmoid schedule beside each
    assert 0.5 * most < sum(asked) <= most


def counted(pictures, asked):
    """Write down in `asked` for how many pictures the model is really called."""
    answer = pictures.answer
    pictures.answer = lambda part, x, sigma: (asked.append(len(x)), answer(part, x, sigma))[1]


def test_other_model_or_settings_have_another_work_folder(tmp_path):
    folders = {Work(tmp_path / "solver.json", key).folder for key in ("one", "other")}
    assert len(folders) == 2


@pytest.mark.parametrize("calls", [1, 31, 1000])
def test_calls_beyond_the_fine_grid_are_refused(tmp_path, calls):
    with pytest.raises(ValueError, match=r"calls must be a whole number from 2 to 30, got"):
        fit(flow_pictures(), EFFORT, [calls], tmp_path)
    assert not os.listdir(tmp_path)


def test_model_that_gives_no_numbers_is_refused(tmp_path):
    pictures = flow_pictures()
    pictures.answer = lambda part, x, sigma: x * float("nan")
    with pytest.raises(ValueError, match="gives no numbers .* Draw a picture with it first"):
        fit(pictures, EFFORT, [4], tmp_path)
    assert not os.listdir(tmp_path)


def test_too_few_prompts_are_refused():
    check_prompts(MIN_PROMPTS)
    with pytest.raises(ValueError, match=f"at least {MIN_PROMPTS} different prompts.*there are 23"):
        check_prompts(MIN_PROMPTS - 1)


def test_no_prompt_is_in_two_sets():
    prompts = [f"prompt {i}" for i in range(MIN_PROMPTS)]
    rows = in_sets(prompts, Sets(10, 12, 14))
    fit_by, choose_by, report = (set(rows[a:b]) for a, b in ((0, 10), (10, 22), (22, 36)))
    assert len(rows) == 36
    assert not fit_by & choose_by and not fit_by & report and not choose_by & report
    assert fit_by | choose_by | report == set(prompts)
