"""The solvers against torchdiffeq and against exact solutions; what their steps refuse.

Two flows with known solutions stand in for a model. `growth`: dx/dsigma = x (1 - x) (1 + sigma),
the logistic equation. `two_pictures`: what a perfect model would answer if the only pictures were
near -1 and near 1; along a path x keeps its quantile, which gives the solution.
"""

import logging
import math
import re

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch.testing import assert_close
from torchdiffeq import odeint

from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.lumina.schedules import SCHEDULES
from lumina_next.lumina.solvers import PARAMETERS, SOLVERS, model_calls, runge_kutta
from lumina_next.lumina.solvers.tableaus import TABLEAUS

FIXED = sorted(runge_kutta.FIXED)
NAMES = sorted(SOLVERS)
# Ours by torchdiffeq's names. It has no others on a grid of the caller's.
IN_TORCHDIFFEQ = {"euler": "euler", "midpoint": "midpoint", "heun": "heun2", "rk4": "rk4"}


def per_picture(sigma):
    return sigma.reshape(-1, 1, 1, 1)


class Model:
    """A model in the form that solvers call, of a slope dx/dsigma. Writes down what it is asked."""

    def __init__(self, slope):
        self.slope = slope
        self.sigmas = []
        self.extra_args = []

    def __call__(self, x, sigma, **extra_args):
        assert sigma.shape == (len(x),) and bool((sigma == sigma[0]).all())
        self.sigmas.append(sigma[0].item())
        self.extra_args.append(extra_args)
        return x - per_picture(sigma) * self.slope(x, per_picture(sigma))


def growth(x, sigma):
    return x * (1 - x) * (1 + sigma)


def growth_solution(x, start, end):
    odds = x / (1 - x) * math.exp((end + end**2 / 2) - (start + start**2 / 2))
    return odds / (1 + odds)


SPREAD = 0.2  # of each of the two pictures


def two_pictures(x, sigma):
    mean, noise = 1 - sigma, sigma**2 + (mean_spread := (1 - sigma) * SPREAD) ** 2
    share = torch.tanh(x * mean / noise)  # of the picture near 1, less that of the one near -1
    denoised = share + (x - share * mean) * mean_spread * SPREAD / noise
    return (x - denoised) / sigma


def quantile(x, sigma):
    scale = math.sqrt(2 * (sigma**2 + ((1 - sigma) * SPREAD) ** 2))
    return sum(math.erf((x - side * (1 - sigma)) / scale) for side in (-1, 1))


def two_pictures_solution(x, start, end):
    def at_end(value):
        wanted = quantile(value, start)
        return brentq(lambda y: quantile(y, end) - wanted, -9, 9, xtol=1e-14)

    return torch.tensor([at_end(value) for value in x.flatten().tolist()]).reshape(x.shape)


def noise(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


NOISE = noise(2, 1, 2, 2)
X = NOISE.sigmoid()  # what `growth` is about


def grid(steps, start=1.0, end=0.0):
    return torch.linspace(start, end, steps + 1, dtype=torch.float64)


def solve(name, model, x, sigmas, **options):
    return SOLVERS[name](model, x, sigmas, disable=True, **options)


# Exactness


@pytest.mark.parametrize("schedule", ["uniform", "rational"])
@pytest.mark.parametrize("name", sorted(IN_TORCHDIFFEQ))
def test_steps_are_those_of_torchdiffeq(name, schedule):
    sigmas = SCHEDULES[schedule](7).double()

    def velocity(t, x):
        return -growth(x, 1 - t)

    expected = odeint(velocity, X, 1 - sigmas, method=IN_TORCHDIFFEQ[name])[-1]
    # The stage at sigma 0 that heun and rk4 have is taken beside it: at 1.5e-8 in float64.
    assert_close(solve(name, Model(growth), X, sigmas), expected)


def measured_order(name):
    counts = np.array([16, 24, 32, 48, 64])
    exact = growth_solution(X, 1.0, 0.0)
    found = [solve(name, Model(growth), X, grid(n)) for n in counts]
    errors = [(x - exact).square().mean().sqrt().item() for x in found]
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("name", FIXED)
def test_order_is_the_promised_one(name):
    order = measured_order(name)
    assert abs(order - TABLEAUS[name].order) < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_two_pictures_are_reached(name):
    """From noise to picture as with a real model; 100 steps suffice even for Euler."""
    found = solve(name, Model(two_pictures), NOISE, grid(100))
    error = (found - two_pictures_solution(NOISE, 1.0, 0.0)).abs().max()
    assert error < {"euler": 0.1}.get(name, 5e-3)


@pytest.fixture(scope="module")
def next_dit():
    """dx/dsigma by a small random Next-DiT in float32. Unlike a denoiser it is known at sigma 0."""
    torch.manual_seed(0)
    config = NextDiTConfig(dim=32, layers=1, heads=4, kv_heads=2, caption_dim=24, ffn_dim=88)
    model = NextDiT(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.2)
    caption = noise(1, 5, 24, dtype=torch.float32)
    return lambda x, sigma: -model(x, (1 - sigma).reshape(-1), caption)


@pytest.mark.parametrize("schedule, steps", [("uniform", 10), ("rational", 29), ("sigmoid", 10)])
def test_rk4_without_a_stage_at_sigma_0_misses_by_less_than_a_ten_thousandth(
    next_dit, schedule, steps
):
    x, sigmas = noise(1, 4, 8, 8, dtype=torch.float32), SCHEDULES[schedule](steps)
    model = Model(next_dit)
    found = solve("rk4", model, x, sigmas)
    expected = odeint(lambda t, x: -next_dit(x, 1 - t[None]), x, 1 - sigmas, method="rk4")[-1]
    assert 0 < min(model.sigmas) < 1e-3
    assert (found - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_exact_enough(name):
    """Rounding of the denoised picture is divided by small sigmas; it must not show."""
    x, sigmas = noise(1, 4, 8, 8), SCHEDULES["sigmoid"](20)
    exact = solve(name, Model(two_pictures), x, sigmas.double())
    found = solve(name, Model(two_pictures), x.float(), sigmas)
    # dopri5 decides about steps by rounded errors: its result may differ by its tolerance.
    assert_close(found.double(), exact, rtol=0, atol=2e-3 if name == "dopri5" else 2e-5)


@pytest.mark.parametrize("schedule, steps", [("rational", 29), ("sigmoid", 10)])
@pytest.mark.parametrize("name", NAMES)
def test_straight_paths_are_followed_to_the_very_end(name, schedule, steps):
    """Those of pixels that a noise mask protects: x = picture + sigma * noise."""
    picture, start = noise(2, 2, 4, 8, 8, dtype=torch.float32)
    model = Model(lambda x, sigma: (x - picture) / sigma)
    found = solve(name, model, picture + start, SCHEDULES[schedule](steps))
    # Where a stage lies beside sigma 0, float32 rounds the distance that is left.
    has_stage_at_end = TABLEAUS[name].c[-1] == 1
    assert_close(found, picture, rtol=0, atol=5e-4 if has_stage_at_end else 2e-6)


# Sigmas


@pytest.mark.parametrize("sigmas", [[1, 0.5, 0], [1, 0], [0.3, 0.1, 1e-6, 0], [1e-7, 0]])
@pytest.mark.parametrize("name", NAMES)
def test_no_stage_is_at_sigma_0(name, sigmas):
    model = Model(lambda x, sigma: x * 0)
    found = solve(name, model, X.float(), torch.tensor(sigmas))
    assert min(model.sigmas) > 0
    assert_close(found, X.float())


@pytest.mark.parametrize("last, nearest", [(1e-3, 1e-5), (0.5, 3.4527e-4)])
@pytest.mark.parametrize("name", ["heun", "rk4", "rk4_classic"])
def test_stage_beside_sigma_0_is_a_hundredth_of_the_step_away_or_nearer(name, last, nearest):
    model = Model(growth)
    solve(name, model, X.float(), torch.tensor([1.0, last, 0.0]))
    assert min(model.sigmas) == pytest.approx(nearest, rel=1e-4)


@pytest.mark.parametrize("name", ["euler", "midpoint"])
def test_euler_and_midpoint_ask_at_the_sigmas_of_the_released_code(name):
    model = Model(growth)
    solve(name, model, X, grid(2))
    assert model.sigmas == {"euler": [1, 0.5], "midpoint": [1, 0.75, 0.5, 0.25]}[name]


@pytest.mark.parametrize("start, end", [(1.0, 0.0), (0.6, 0.0), (1.0, 0.25), (0.7, 0.3)])
@pytest.mark.parametrize("name", NAMES)
def test_part_of_the_way_is_solved_like_the_whole(name, start, end):
    found = solve(name, Model(growth), X, grid(60, start, end))
    expected = growth_solution(X, start, end)
    assert_close(found, expected, rtol=0, atol=2e-2 if name == "euler" else 2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_way_back_to_noise_ends_where_it_came_from(name):
    picture = solve(name, Model(growth), X, grid(200))
    back = solve(name, Model(growth), picture, grid(200).flip(0))
    assert_close(back, X, rtol=0, atol=2e-2 if name == "euler" else 1e-3)


@pytest.mark.parametrize("sigmas", [[], [0.5]])
@pytest.mark.parametrize("name", NAMES)
def test_without_a_step_nothing_happens(name, sigmas):
    model = Model(growth)
    assert_close(solve(name, model, X, torch.tensor(sigmas)), X, rtol=0, atol=0)


# The form of k-diffusion


@pytest.mark.parametrize("name", FIXED)
def test_callback_hears_of_each_step(name):
    heard, sigmas, x = [], SCHEDULES["rational"](4), X.float()
    solve(name, Model(growth), x, sigmas, callback=heard.append)
    assert [event["i"] for event in heard] == [0, 1, 2, 3]
    assert torch.stack([event["sigma"] for event in heard]).equal(sigmas[:-1])
    assert all(event["sigma_hat"] is event["sigma"] for event in heard)
    assert_close(heard[0]["x"], x)
    denoised = x - growth(x, torch.tensor(1.0))
    assert_close(heard[0]["denoised"], denoised)


@pytest.mark.parametrize("name", NAMES)
def test_extra_args_reach_every_model_call(name):
    model = Model(growth)
    solve(name, model, X, grid(2), extra_args={"seed": 3})
    assert model.extra_args == [{"seed": 3}] * len(model.sigmas)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_dtype_is_kept_and_steps_are_not_rounded_to_half(name, dtype):
    asked = []
    model = Model(lambda x, sigma: asked.append(x.dtype) or growth(x, sigma))
    found = solve(name, model, X.to(dtype) * 0.3, SCHEDULES["uniform"](8))
    assert found.dtype == dtype
    assert set(asked) == {torch.promote_types(dtype, torch.float32)}


@pytest.mark.parametrize("name", FIXED)
def test_pictures_of_a_batch_do_not_touch_each_other(name):
    together = solve(name, Model(growth), X, grid(5))
    alone = [solve(name, Model(growth), x[None], grid(5)) for x in X]
    assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", NAMES)
def test_solvers_are_called_by_their_names(name):
    """ComfyUI writes them into its log."""
    assert SOLVERS[name].__name__ == f"sample_{name}"


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_the_solver_computes(name):
    """Its formula, evaluated as it stands, is the step that the solver takes."""
    *slopes, step = re.search(r"^k1 = .*", SOLVERS[name].__doc__, re.M | re.S)[0].splitlines()
    values = {"v": lambda sigma, x: growth(x, sigma), "x": X, "sigma": 0.5, "h": -0.25}
    for line in slopes:
        slope, formula = line.split(" = ")
        values[slope] = eval(in_python(formula), {}, values)
    loose = {"rtol": 1.0, "atol": 1.0} if name == "dopri5" else {}
    found = solve(name, Model(growth), X, grid(1, 0.5, 0.25), **loose)
    assert_close(found, eval(in_python(step), {}, values), rtol=0, atol=1e-12)


def in_python(formula):
    return re.sub(r"(?<=[\dh]) (?=[hk(])", " * ", formula)


@pytest.mark.parametrize("name", NAMES)
def test_help_says_how_a_solver_is_called_elsewhere(name):
    tableau, text = TABLEAUS[name], SOLVERS[name].__doc__
    assert text.index(f"Order {tableau.order}, {tableau.calls_per_step} model call")
    for fact in (tableau.use, tableau.other_names, tableau.source):
        assert fact and fact in text


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("name", FIXED)
def test_model_calls_are_as_many_as_said(name, steps, caplog):
    model = Model(growth)
    with caplog.at_level(logging.INFO):
        solve(name, model, X, grid(steps))
    assert len(model.sigmas) == model_calls(name, steps)
    assert f"{name}: {steps} steps, {len(model.sigmas)} model calls" in caplog.text


def test_model_calls_of_each_rule():
    calls = {name: model_calls(name, 10) for name in NAMES}
    assert calls == {
        "euler": 10, "midpoint": 20, "heun": 20, "ralston": 20, "bosh3": 30,
        "rk4": 40, "rk4_classic": 40, "dopri5": None,
    }  # fmt: skip


def test_model_calls_of_an_unknown_solver_are_refused():
    with pytest.raises(KeyError):
        model_calls("rk5", 10)


# dopri5


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize("flow", ["growth", "two_pictures"])
def test_dopri5_meets_its_tolerance(flow, tolerance):
    """Errors of the steps add up, and both flows spread them; ten times one step's is little."""
    slope, solution = globals()[flow], globals()[f"{flow}_solution"]
    x = X if flow == "growth" else NOISE
    found = solve("dopri5", Model(slope), x, grid(10), rtol=tolerance, atol=tolerance)
    assert (found - solution(x, 1.0, 0.0)).abs().max() < 10 * tolerance


def test_dopri5_agrees_with_torchdiffeq():
    """Both keep to the tolerance, in steps of their own."""

    def velocity(t, x):
        return -growth(x, 1 - t)

    t = torch.tensor([0.0, 1.0]).double()
    expected = odeint(velocity, X, t, method="dopri5", rtol=1e-5, atol=1e-7)[-1]
    found = solve("dopri5", Model(growth), X, grid(10), rtol=1e-5, atol=1e-7)
    assert_close(found, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_dopri5_works_hardly_more_than_torchdiffeq(tolerance):
    model, theirs = Model(two_pictures), []

    def velocity(t, x):
        theirs.append(t)
        return -two_pictures(x, 1 - t)

    # Not to 0, where theirs would divide by it.
    t = torch.tensor([0.0, 0.99]).double()
    odeint(velocity, NOISE, t, method="dopri5", rtol=tolerance, atol=tolerance)
    solve("dopri5", model, NOISE, grid(50, 1.0, 0.01), rtol=tolerance, atol=tolerance)
    assert len(model.sigmas) < 1.3 * len(theirs)


def test_dopri5_works_more_for_a_smaller_tolerance():
    def calls(tolerance):
        model = Model(two_pictures)
        solve("dopri5", model, NOISE, grid(10), rtol=tolerance, atol=tolerance)
        return len(model.sigmas)

    assert calls(1e-2) < calls(1e-4) < calls(1e-6)


def test_dopri5_holds_every_picture_of_a_batch_to_the_tolerance():
    """One picture that is hard, among many for which nothing happens."""
    x = torch.cat([X[:1], torch.zeros(50, 1, 2, 2)]).double()

    def slope(x, sigma):
        hard = torch.arange(len(x)).reshape(-1, 1, 1, 1) == 0
        return torch.where(hard, growth(x, sigma), 0)

    alone, together = Model(growth), Model(slope)
    expected = solve("dopri5", alone, x[:1], grid(10))
    assert_close(solve("dopri5", together, x, grid(10))[:1], expected)
    assert together.sigmas == alone.sigmas


def test_dopri5_reports_progress_along_the_grid():
    heard = []
    solve("dopri5", Model(two_pictures), NOISE, grid(20), callback=heard.append, rtol=1e-5)
    indices = [event["i"] for event in heard]
    assert indices == sorted(indices) and indices[-1] == 19
    sigmas = [event["sigma"].item() for event in heard]
    assert sigmas == sorted(sigmas, reverse=True) and sigmas[-1] == 0
    for index, sigma in zip(indices, sigmas, strict=True):
        assert grid(20)[index + 1] <= sigma < grid(20)[index]


def test_dopri5_says_where_it_gave_up():
    model = Model(two_pictures)
    with pytest.raises(RuntimeError) as error:
        solve("dopri5", model, NOISE, grid(100), rtol=1e-6, atol=1e-7, max_steps=5)
    message = str(error.value)
    assert "has taken 5 steps (31 model calls) and is at sigma 0." in message
    assert "from 1 to 0. Raise max_steps" in message
    assert "rtol (now 1e-06)" in message
    assert len(model.sigmas) == 31


def test_dopri5_may_take_exactly_its_last_step():
    def calls(max_steps):
        model = Model(growth)
        solve("dopri5", model, X, grid(3), max_steps=max_steps)
        return len(model.sigmas)

    needed = (calls(200) - 1) // 6
    assert calls(needed) == calls(200)
    with pytest.raises(RuntimeError):
        calls(needed - 1)


@pytest.mark.parametrize("value", [0, -1, float("nan")])
@pytest.mark.parametrize("name", PARAMETERS["dopri5"])
def test_dopri5_refuses_what_no_step_could_keep_to(name, value):
    with pytest.raises(ValueError, match=f"above 0.*at least one step.*{name} {value}"):
        solve("dopri5", Model(growth), X, grid(3), **{name: value})


def test_dopri5_takes_tighter_tolerances_than_the_editor_offers():
    found = solve("dopri5", Model(growth), X.double(), grid(3).double(), rtol=1e-9, atol=1e-9)
    assert_close(found, growth_solution(X.double(), 1.0, 0.0), rtol=1e-7, atol=0)


def test_dopri5_refuses_a_model_that_gives_no_numbers():
    with pytest.raises(RuntimeError, match="no numbers .NaN. near sigma 1"):
        solve("dopri5", Model(lambda x, sigma: x / 0 * 0), X, grid(3))
