"""Layers one by one: patched by other nodes, dropping context."""

import dataclasses

import torch
from torch.testing import assert_close

from lumina_next.lumina.options.context_drop import Cells
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.tests.support.tiny import (
    STEPS,
    assert_same_picture,
    euler,
    ksampler,
    plain_model,
)


@dataclasses.dataclass(frozen=True)
class DroppingEverywhere:
    """Context drop without asking for the time, which a device without values cannot tell."""

    def forward_options(self, step):
        cells = Cells(len(step.rows), len(step.columns), 2)
        return ForwardOptions(step.trained_rotation(), cells=cells, dropping=frozenset({0, 1, 2}))


def test_only_the_layers_asked_for_drop_context(load):
    cells, dropping = Cells(8, 6, 2), frozenset({1})

    @dataclasses.dataclass(frozen=True)
    class Dropping:
        def forward_options(self, step):
            return ForwardOptions(step.trained_rotation(), cells=cells, dropping=dropping)

    model, plain = load("native.safetensors").clone(), plain_model()
    model.model_options["transformer_options"]["lumina_next"] = Dropping()

    def velocity(x, t, caption):
        return plain(x, t, caption, options=ForwardOptions(cells=cells, dropping=dropping))

    assert_same_picture(ksampler(model), euler(velocity, model))


def test_skipped_block_is_a_model_without_it(load, weights):
    model = load("native.safetensors")
    skipping = model.clone()
    skipping.set_model_patch_replace(lambda args, extra: args, "dit", "double_block", 1)
    plain = plain_model()
    plain.layers = torch.nn.ModuleList([plain.layers[0], plain.layers[2]])
    assert_same_picture(ksampler(skipping), euler(plain, model))


def test_patches_of_other_nodes_see_every_block(load):
    model = load("native.safetensors")
    attended, finished = [], []

    def attention_patch(out, options):
        attended.append((options["block_index"], options["total_blocks"], tuple(out.shape)))
        return out

    def block_patch(seen):
        finished.append(seen["block_index"])
        return {"img": seen["img"]}

    patched = model.clone()
    patched.set_model_attn1_output_patch(attention_patch)
    patched.set_model_double_block_patch(block_patch)
    assert_close(ksampler(patched), ksampler(model), rtol=0, atol=0)
    assert attended == [(i, 3, (2, 48, 32)) for i in range(3)] * STEPS
    assert finished == [0, 1, 2] * STEPS
