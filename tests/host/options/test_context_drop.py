"""Context drop in ComfyUI: each picture against plain torch by the same rules."""

import pytest
import torch

from lumina_next.lumina.options.context_drop import Cells, ContextDrop
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.tests.support.option_nodes import by_hand, dropped
from lumina_next.tests.support.tiny import CONFIG, assert_same_picture, ksampler


def test_context_drop_is_the_same_by_hand(model):
    drop = ContextDrop(2, 0.8, "last")

    def options(t, height, width):
        return ForwardOptions(cells=Cells(height, width, 2), dropping=drop.layers(t, CONFIG.layers))

    found = ksampler(dropped(model, 2, 0.8, "last"))
    assert_same_picture(found, by_hand(model, options))
    assert not torch.allclose(found, ksampler(model), atol=0.05)


def test_context_drop_of_factor_one_is_the_model_to_the_bit(model):
    assert torch.equal(ksampler(dropped(model, 1)), ksampler(model))


@pytest.mark.parametrize("height, width", [(15, 17), (16, 10)])
def test_context_drop_takes_any_size(model, height, width):
    found = ksampler(dropped(model, 3), height, width)
    assert found.shape == (1, 4, height, width) and found.isfinite().all()
