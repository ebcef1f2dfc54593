"""The sampling nodes called as the host calls them, for their tests."""

import torch

from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.tiny import GUIDANCE, NEGATIVE, POSITIVE, SEED

STEPS = 4
SAMPLING_NODES = ["LuminaNextSampler", "LuminaNextScheduler", "LuminaNextSolver"]


def custom(schedule, solver, steps=STEPS, parameters=(), **options):
    """The value of the preset input for these settings, in the form in which nodes get it."""
    return {
        "preset": "Custom",
        "steps": steps,
        "schedule": {"schedule": schedule, **dict(parameters)},
        "solver": {"solver": solver, **options},
    }


def sample(model, preset, latent=None, **changes):
    """Both outputs of the sampler node: (latent, denoised)."""
    inputs = {
        "model": model,
        "seed": SEED,
        "preset": preset if isinstance(preset, dict) else {"preset": preset},
        "cfg": GUIDANCE,
        "positive": POSITIVE,
        "negative": NEGATIVE,
        "latent_image": latent or empty(),
        "denoise": 1.0,
    }
    return node("LuminaNextSampler", **inputs | changes)


def empty(batch=1, channels=4, height=8, width=6):
    return {"samples": torch.zeros(batch, channels, height, width)}


def schema(name):
    import nodes

    return nodes.NODE_CLASS_MAPPINGS[name].GET_SCHEMA()  # which checks it as well


def unfolded(inputs):
    """The inputs and, of every dynamic one, those of its options."""
    for item in inputs:
        yield item
        for option in getattr(item, "options", None) or []:
            yield from unfolded(getattr(option, "inputs", []))


def inputs_of(name):
    return list(unfolded(schema(name).inputs))
