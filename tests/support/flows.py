"""A flow with a known answer in place of a model, and pictures of it for a fit."""

import torch

from lumina_next.lumina.solvers.fitting import Pictures, Sets

SETS = Sets(4, 4, 4)


def denoised(x, sigma):
    """What a perfect model answers if the only pictures are near -1 and near 1, both alike.

    The mean of the picture given x = (1 - sigma) picture + sigma noise; 0.2 is each one's spread.
    """
    s = sigma.reshape(-1, *[1] * (x.ndim - 1))
    t, variance = 1 - s, (0.2 * (1 - s)) ** 2 + s**2
    side = torch.tanh(t * x / variance)
    return side + t * 0.04 / variance * (x - t * side)


def flow_pictures(count=SETS.total, batch=4, **rest):
    noise = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Pictures(noise, lambda part, x, sigma: denoised(x, sigma), batch, **rest)
