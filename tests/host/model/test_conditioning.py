"""Prompts on their way into the model: batched, masked, or refused."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.tests.support import tiny
from lumina_next.tests.support.tiny import (
    CONFIG,
    NEGATIVE,
    POSITIVE,
    STEPS,
    assert_same_picture,
    ksampler,
)


def test_prompts_of_different_length_share_one_forward(load):
    model, seen = tiny.count_forwards(load("native.safetensors"))
    ksampler(model)
    assert seen == [2] * STEPS


def test_padding_hides_nothing_and_shows_nothing(load, weights):
    caption, extra = POSITIVE[0][0], torch.full((1, 4, CONFIG.caption_dim), 1e3)
    mask = torch.tensor([[1.0] * 11 + [0.0] * 4])
    garbage = [[torch.cat([caption, extra], dim=1), {"attention_mask": mask}]]
    model = load("native.safetensors")
    assert_same_picture(ksampler(model, positive=garbage), ksampler(model))
    assert not torch.allclose(ksampler(model, positive=NEGATIVE), ksampler(model), atol=1)


def test_mask_of_concatenated_prompts_is_completed(load):
    import nodes

    joined = nodes.ConditioningConcat().concat(POSITIVE, NEGATIVE)[0]
    assert joined[0][0].shape[1] == 16 and joined[0][1]["attention_mask"].shape[1] == 11
    model = load("native.safetensors")
    full = [[joined[0][0], {"attention_mask": torch.ones(1, 16)}]]
    assert_close(ksampler(model, positive=joined), ksampler(model, positive=full))


def test_area_conditioning_knows_the_whole_frame(load):
    import nodes

    frames = set()

    @dataclasses.dataclass(frozen=True)
    class Notes:
        def forward_options(self, step):
            frames.add((len(step.rows), len(step.columns), step.frame))
            return ForwardOptions()

    model = load("native.safetensors").clone()
    model.model_options["transformer_options"]["lumina_next"] = Notes()
    area = nodes.ConditioningSetArea().append(NEGATIVE, 72, 64, 0, 16, 1.0)[0]
    ksampler(model, positive=[*POSITIVE, *area])
    assert frames == {(8, 6, (8, 6)), (4, 5, (8, 6))}


@pytest.mark.parametrize("x, y", [(96, 0), (0, 128), (4096, 4096)])
def test_area_outside_the_picture_is_refused(load, x, y):
    import nodes

    area = nodes.ConditioningSetArea().append(NEGATIVE, 64, 64, x, y, 1.0)[0]
    with pytest.raises(ValueError, match="area that lies outside the picture"):
        ksampler(load("native.safetensors"), positive=area)


def test_latent_of_another_model_family_is_refused(load):
    import nodes

    latent = {"samples": torch.ones(1, 16, 8, 8)}
    with pytest.raises(ValueError, match=r"\(1, 16, 8, 8\).*4 channels.*SDXL VAE"):
        nodes.common_ksampler(
            load("native.safetensors"), 7, 1, 1.0, "euler", "normal", POSITIVE, NEGATIVE, latent
        )


def test_prompt_of_another_text_encoder_is_refused(load):
    wide = [[torch.zeros(1, 3, 4096), {}]]
    with pytest.raises(ValueError, match="4096 features.*T5-XXL.*trained with 24"):
        ksampler(load("native.safetensors"), positive=wide)


def test_prompt_of_sdxl_is_told_from_one_of_gemma():
    from lumina_next.host.model.base_model import check_caption

    caption, pooled = torch.zeros(1, 77, 2048), torch.zeros(1, 1280)
    check_caption(caption, 2048, {"attention_mask": torch.ones(1, 77), "pooled_output": None})
    with pytest.raises(ValueError, match="SDXL"):
        check_caption(caption, 2048, {"pooled_output": pooled})
