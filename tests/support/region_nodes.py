"""Regions by their nodes, and the same pictures by plain torch."""

import torch

from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.options.regions import CaptionShares
from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE

BOX = {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0}
SETTINGS = {"weight": 1.0, "feather": 0.0, "start": 0.0, "end": 1.0}
LEFT, RIGHT = {"width": 0.5}, {"x": 0.5, "width": 0.5}
FIRST, SECOND = tiny.conditioning(7, seed=4), tiny.conditioning(13, seed=5)


def region(prompt, others=None, mask=None, **changes):
    return node(
        "LuminaNextRegion", prompt=prompt, regions=others, mask=mask,
        **BOX | SETTINGS | changes,
    )  # fmt: skip


def regions(*entries, global_prompt=POSITIVE):
    """A prompt with regions, each as (prompt, settings)."""
    chained = None
    for prompt, settings in entries:
        chained = region(prompt, chained, **settings)
    return node("LuminaNextRegions", global_prompt=global_prompt, regions=chained)


HALVES = (FIRST, LEFT), (SECOND, RIGHT)


def left_mask(height=128, width=96):
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2] = 1
    return mask


def by_hand(model, weights, prompts, height=16, width=12, plain=None):
    """Euler in plain torch with weights (1, R, height, width) or a function that gives them at t.

    prompts: the global one and those of the regions.
    """
    plain = plain or tiny.plain_model()
    captions = [prompt[0][0] for prompt in prompts]
    lengths = [caption.shape[1] for caption in captions]

    def velocity(x, t, caption):
        if caption is NEGATIVE[0][0]:
            return plain(x, t, caption)
        now = weights(float(t)) if callable(weights) else weights
        options = ForwardOptions(regions=CaptionShares.of(now, lengths))
        return plain(x, t, torch.cat(captions, dim=1), None, options)

    return tiny.euler(velocity, model, height, width)
