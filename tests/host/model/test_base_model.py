"""A loaded model inside ComfyUI: prompts, memory, LoRA, and the patches of other nodes.

Each is compared with plain torch, or with the same model where the host does without.
"""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.options.resolution import Resolution
from lumina_next.lumina.options.run import RunSettings
from lumina_next.lumina.rope import rotation
from lumina_next.lumina.rope.scaling import Scaling
from lumina_next.tests.host.model.test_network import DroppingEverywhere
from lumina_next.tests.support.tiny import (
    CONFIG,
    POSITIVE,
    assert_same_picture,
    euler,
    ksampler,
    plain_model,
)


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
