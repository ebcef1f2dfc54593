"""The forecast: exact where slopes do not depend on the state, and good at the best points."""

import torch

from lumina_next.lumina.solvers.fitting import Pictures, Sets
from lumina_next.lumina.solvers.fitting.forecast import Forecast
from lumina_next.lumina.solvers.fitting.search import usual
from lumina_next.lumina.solvers.fitting.trajectories import fine_trajectories
from lumina_next.lumina.solvers.fitting.trials import attempt
from lumina_next.tests.support.flows import SETS, flow_pictures

STATELESS = Sets(4, 4, 0)


def stateless_pictures():
    """dx/dsigma turns from -1 to 1, at a sigma of its own for each pixel, whatever x is."""
    noise = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def denoised(part, x, sigma):
        sigma = sigma.reshape(-1, 1, 1, 1)
        return x - sigma * torch.tanh(20 * (sigma - 0.5 - 0.2 * noise[part]))

    return Pictures(noise, denoised, batch=8)


def test_forecast_is_exact_where_slopes_do_not_depend_on_the_state(tmp_path):
    pictures = stateless_pictures()
    fine = fine_trajectories(pictures, STATELESS, tmp_path)
    for points in usual(5):
        end = attempt(points, pictures, fine, STATELESS, None).states[-1][:4]
        off = float((end - fine.ends[:4]).square().mean().sqrt())
        assert off > 0.02
        assert abs(Forecast(fine).error(points) - off) < 0.02 * off + 3e-3  # float16 states


def test_best_points_are_foretold_better_than_the_usual_ones(tmp_path):
    fine = fine_trajectories(flow_pictures(), SETS, tmp_path)
    forecast = Forecast(fine)
    best = forecast.best(5)
    errors = [forecast.error(points) for points in best]
    assert errors == sorted(errors)
    assert errors[0] < 0.7 * min(forecast.error(points) for points in usual(5))
