"""A loaded model inside ComfyUI: prompts, memory, LoRA, and the patches of other nodes.

Each is compared with plain torch, or with the same model where the host does without.
"""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from lumina_next.lumina.options.context_drop import Cells
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.options.resolution import Resolution
from lumina_next.lumina.options.run import RunSettings
from lumina_next.lumina.rope import rotation
from lumina_next.lumina.rope.scaling import Scaling
from lumina_next.tests.support import tiny
from lumina_next.tests.support.tiny import (
    CONFIG,
    NEGATIVE,
    POSITIVE,
    STEPS,
    assert_same_picture,
    euler,
    ksampler,
    plain_model,
)


@pytest.fixture
def load(folder):
    from lumina_next.host.model import loading

    return loading.load_model


# --- conditioning


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


# --- memory, patches, saving


def with_gate_lora(model, weights):
    """A LoRA that changes one head gate, and the weights it should amount to."""
    import comfy.sd

    change = torch.full((CONFIG.heads,), 2.0)
    key = "layers.1.attention.gate"
    lora = {f"diffusion_model.{key}.diff": change}
    patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0)
    return patched, weights | {key: weights[key] + change}


def test_lora_reaches_the_head_gates(load, weights):
    patched, changed = with_gate_lora(load("native.safetensors"), weights)
    expected = euler(plain_model(changed), patched)
    assert_same_picture(ksampler(patched), expected)


def test_partly_loaded_model_gives_the_same_picture(load, weights):
    patched, changed = with_gate_lora(load("native.safetensors"), weights)
    x, sigma = torch.randn(1, 4, 8, 8), torch.tensor([0.4])
    caption = POSITIVE[0][0]
    patched.load(torch.device("cpu"), lowvram_model_memory=4096)
    assert patched.model.model_lowvram and patched.lowvram_patch_counter()
    streamed = patched.model.apply_model(x, sigma, c_crossattn=caption)
    patched.unpatch_model()
    velocity = plain_model(changed)(x, 1 - sigma, caption)
    assert_close(streamed, x + sigma * velocity)


def test_saved_checkpoint_loads_again_exactly(load, host, folder, weights):
    from comfy_extras.nodes_model_merging import save_checkpoint

    model = load("diffusers.safetensors")
    save_checkpoint(model, filename_prefix="saved", output_dir=str(host.output))
    (saved,) = host.output.glob("saved*.safetensors")
    prefixed = {f"model.diffusion_model.{key}": tensor for key, tensor in weights.items()}
    assert_close(load_file(saved), prefixed, rtol=0, atol=0)
    saved.rename(folder / "saved.safetensors")
    again = load("saved.safetensors").model.state_dict()
    assert_close(again, model.model.state_dict(), rtol=0, atol=0)


def test_factory_makes_a_fresh_model(load):
    model = load("native.safetensors")
    factory, arguments = model.cached_patcher_init
    fresh = factory(*arguments, disable_dynamic=True)
    assert fresh.model is not model.model and not fresh.is_dynamic()
    assert_close(ksampler(fresh), ksampler(model), rtol=0, atol=0)


def test_clone_with_moved_positions_leaves_the_original(load, weights):
    model, plain = load("native.safetensors"), plain_model()
    before = ksampler(model)
    moved = model.clone()
    moved.set_model_rope_options(0.5, 3.0, 0.25, -1.0, 1.0, 0.0)  # x: scale, shift; y; time
    rows, columns = torch.arange(8.0) * 0.25 - 1, torch.arange(6.0) * 0.5 + 3
    frequency = rotation.frequencies(CONFIG.head_dim)
    table = rotation.rotation_table((rows, columns), [frequency] * 2)

    def velocity(x, t, caption):
        return plain(x, t, caption, options=ForwardOptions(rotation=table))

    assert_same_picture(ksampler(moved), euler(velocity, model))
    assert_close(ksampler(model), before, rtol=0, atol=0)


def test_run_settings_reach_the_model_at_every_step(load):
    @dataclasses.dataclass(frozen=True)
    class Sharper:
        def forward_options(self, step):
            scale = 0.1 + step.t  # something that changes from step to step
            return ForwardOptions(self_attention_scale=scale)

    model, plain = load("native.safetensors").clone(), plain_model()
    model.model_options["transformer_options"]["lumina_next"] = Sharper()

    def velocity(x, t, caption):
        return plain(x, t, caption, options=ForwardOptions(self_attention_scale=0.1 + float(t)))

    assert_same_picture(ksampler(model), euler(velocity, model))
    assert not torch.allclose(ksampler(model), ksampler(load("native.safetensors")), atol=0.1)


@dataclasses.dataclass(frozen=True)
class DroppingEverywhere:
    """Context drop without asking for the time, which a device without values cannot tell."""

    def forward_options(self, step):
        cells = Cells(len(step.rows), len(step.columns), 2)
        return ForwardOptions(step.trained_rotation(), cells=cells, dropping=frozenset({0, 1, 2}))


@pytest.mark.parametrize(
    "settings",
    [
        RunSettings(),
        RunSettings(Resolution(2, Scaling("ntk"), proportional=True)),
        DroppingEverywhere(),
    ],
    ids=["plain", "resolution", "context drop"],
)
def test_model_call_stays_on_the_device_of_its_latent(load, monkeypatch, settings):
    """On "meta" a tensor left behind on the CPU is an error, and so is waiting for a value."""
    import comfy.ldm.modules.attention as attention

    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    model = load("native.safetensors").model
    model.diffusion_model.to("meta")
    x, sigma = torch.empty(2, 4, 15, 12, device="meta"), torch.empty(2, device="meta")
    caption, mask = torch.empty(2, 9, CONFIG.caption_dim), torch.ones(2, 9, dtype=torch.long)
    mask[1, 5:] = 0
    for moved in ({}, {"rope_options": {"shift_x": 1.0}}):
        options = {"lumina_next": settings, **moved}
        found = model.apply_model(
            x, sigma, c_crossattn=caption, attention_mask=mask, transformer_options=options
        )
        assert found.device == x.device and found.shape == x.shape


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
