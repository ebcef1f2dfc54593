"""Random weights for the tests, none of which leaves a part of a model without effect."""

import torch


def randomize(model, std=None, generator=None):
    """The model with every weight random, gates and norms too.

    std: of all weights. By default, matrices keep the size of what they are multiplied with.
    """
    generator = generator or torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        fan_in = parameter.shape[1] if parameter.ndim == 2 else 4
        parameter.data.normal_(std=std or fan_in**-0.5, generator=generator)
    return model.eval().requires_grad_(False)
