"""What a card would hold and compute in, seen without one: layers of the 2B's width on "meta".

`tests/support/emulated_card.py` says what is real in it. Two layers stand for all: activations are
the same in each, and freed after it.
"""

import dataclasses
import gc
import logging

import pytest
import torch
from safetensors.torch import save_file

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.lumina.options.resolution import Resolution
from lumina_next.lumina.options.run import RunSettings
from lumina_next.lumina.rope.scaling import Scaling
from lumina_next.tests.host.model.test_network import DroppingEverywhere
from lumina_next.tests.support.emulated_card import (
    AMPERE,
    CARD,
    TURING,
    Allocations,
    emulated_card,
)
from lumina_next.tests.support.zero_files import write_next_dit

WIDE = NextDiTConfig(dim=2304, layers=2, heads=32, kv_heads=8, caption_dim=2048, ffn_dim=6144)
CONFIGS = {
    "2B": WIDE,
    "2B, a key for each query": dataclasses.replace(WIDE, kv_heads=32),
    "7B": NextDiTConfig(dim=4096, layers=2, heads=32, kv_heads=32, caption_dim=4096, ffn_dim=11008),
    "narrow feed-forward": NextDiTConfig(
        dim=1024, layers=2, heads=16, kv_heads=8, caption_dim=512, ffn_dim=1024
    ),
    "small": NextDiTConfig(dim=256, layers=2, heads=4, kv_heads=4, caption_dim=2048, ffn_dim=768),
}
MIB = 1 << 20

# What torch says of weights that are loaded straight into a card without values.
pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")


def model_of_zeros(path, config=WIDE):
    """A MODEL that is on the card, or streamed to it, once it is used."""
    from lumina_next.host.model.loading import load_model_file

    write_next_dit(path / "model.safetensors", config, torch.bfloat16)
    return load_model_file(str(path / "model.safetensors"), {}, "SDXL")


def use(patcher):
    import comfy.model_management

    comfy.model_management.load_models_gpu([patcher])
    return patcher


def call(patcher, batch=2, side_px=1024, height_px=None, conds=None, **transformer_options):
    """One call of the model with a padded caption, as sampling makes it: (noise, allocations).

    conds: what else sampling hands over.
    """
    config = patcher.model.diffusion_model.config
    latent = (height_px or side_px) // 8, side_px // 8
    x = torch.empty(batch, config.in_channels, *latent, device=CARD)
    caption = torch.empty(batch, 64, config.caption_dim, device=CARD)
    mask = torch.ones(batch, 64, dtype=torch.long)
    mask[-1, 5:] = 0
    with Allocations() as allocations:
        out = patcher.model.apply_model(
            x,
            torch.empty(batch, device=CARD),
            c_crossattn=caption,
            attention_mask=mask,
            transformer_options=transformer_options,
            **conds or {},
        )
    return out, allocations


def test_helper_counts_what_lives_and_forgets_what_is_gone():
    with Allocations() as allocations:
        first = torch.empty(1000, device=CARD)
        assert allocations.live == 4000
        second = first.float().half().view(10, 100)
        del first
        assert (allocations.live, allocations.peak) == (2000, 6000)
        del second
    assert (allocations.live, allocations.peak, allocations.largest) == (0, 6000, 4000)


def test_helper_refuses_a_tensor_left_on_the_cpu_and_a_value():
    with Allocations(), pytest.raises(RuntimeError, match="mixes tensors"):
        torch.empty(2, 3, device=CARD) @ torch.empty(3, 2)
    with Allocations(), pytest.raises(RuntimeError, match="meta"):
        float(torch.empty((), device=CARD))


def test_helper_keeps_all_scores_of_grouped_attention_in_float32():
    q, k = (torch.empty(1, heads, 1024, 8, device=CARD) for heads in (4, 2))
    attend = torch.nn.functional.scaled_dot_product_attention
    with Allocations() as plain:
        attend(q, k, k, enable_gqa=True)
    with Allocations() as fused:
        attend(q.half(), k.half(), k.half(), enable_gqa=True)
    assert plain.peak > 2 * 4 * 1024**2 * 4 > 10 * fused.peak  # scores and their softmax


# Flash attention takes no mask and no float32: the host then falls back to torch's attention.
@pytest.mark.parametrize("backend", ["attention_pytorch", "attention_flash"])
@pytest.mark.parametrize("kind", [AMPERE, TURING], ids=["bfloat16", "float32"])
def test_no_layer_keeps_all_attention_scores(host, tmp_path, monkeypatch, kind, backend, dynamic):
    """In float32 no kernel of CUDA shares keys between heads: all scores would take 4 GB."""
    with emulated_card(monkeypatch, kind, backend=backend, dynamic=dynamic):
        patcher = use(model_of_zeros(tmp_path))
        call(patcher)  # with dynamic memory the weights come here
        _, allocations = call(patcher)
    assert allocations.peak < (400 if kind is AMPERE else 800) * MIB


@pytest.mark.parametrize("kind, name", [(TURING, "2B"), *((AMPERE, name) for name in CONFIGS)])
def test_host_reserves_what_a_call_takes_and_a_quarter(host, tmp_path, monkeypatch, kind, name):
    with emulated_card(monkeypatch, kind):
        patcher = use(model_of_zeros(tmp_path, CONFIGS[name]))
        for batch, side_px in ((1, 1024), (2, 1024), (2, 2048)):
            _, allocations = call(patcher, batch, side_px)
            latent = batch, 4, side_px // 8, side_px // 8
            reserved = patcher.model.memory_required(latent)
            assert 1.1 < reserved / allocations.peak < 1.3


SETTINGS = {
    "plain": {},
    "resolution": {"lumina_next": RunSettings(Resolution(32, Scaling("ntk")))},
    "context drop": {"lumina_next": DroppingEverywhere()},
    "moved": {"rope_options": {"shift_x": 1.0}},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_nothing_is_left_on_the_card_after_a_call(host, tmp_path, monkeypatch, settings, dynamic):
    with emulated_card(monkeypatch, dynamic=dynamic):
        patcher = use(model_of_zeros(tmp_path))
        call(patcher, 1, 512)
        out, allocations = call(patcher, 1, 512, 392, **SETTINGS[settings])
        assert out.device == CARD and out.shape == (1, 4, 49, 64)
        gc.collect()
        assert allocations.live == out.untyped_storage().nbytes()


def test_regions_are_read_on_the_card_within_what_the_host_reserves(
    host, tmp_path, monkeypatch, dynamic
):
    """Their weights come from the CPU; captions of 40, 12 and 12 tokens."""
    side_px = 1024
    conds = {
        "caption_lengths": (40, 12, 12),
        "region_weights": torch.ones(2, 2, side_px // 8, side_px // 8),
        "region_ranges": torch.tensor([[1_000_000, 0]] * 2).expand(2, 2, 2),
    }
    with emulated_card(monkeypatch, dynamic=dynamic):
        patcher = use(model_of_zeros(tmp_path))
        call(patcher, 2, side_px)
        out, allocations = call(patcher, 2, side_px, conds=conds)
        reserved = patcher.model.memory_required((2, 4, side_px // 8, side_px // 8))
        assert allocations.peak < reserved
        gc.collect()
        assert allocations.live == out.untyped_storage().nbytes()


def lora(config):
    """A LoRA of a matrix and of a gate, in float32 on the CPU as a file of one is read."""
    dim = config.dim
    return {
        "diffusion_model.layers.0.attention.wq.lora_B.weight": torch.zeros(dim, 4),
        "diffusion_model.layers.0.attention.wq.lora_A.weight": torch.zeros(4, dim),
        "diffusion_model.layers.1.attention.gate.diff": torch.zeros(config.heads),
    }


def test_lora_is_applied_on_the_card(host, tmp_path, monkeypatch, dynamic):
    import comfy.sd

    with emulated_card(monkeypatch, dynamic=dynamic):
        model = model_of_zeros(tmp_path)
        patched, _ = comfy.sd.load_lora_for_models(model, None, lora(WIDE), 1.0, 0)
        assert len(patched.patches) == 2
        call(use(patched), 1, 256)
        out, allocations = call(patched, 1, 256)
        assert allocations.live == out.untyped_storage().nbytes()


def write_scaled(path, config):
    """A file with matrices in 8 bits and their scales, as older converters write it."""
    shapes = key_names.to_file_keys(NextDiT(config, device="meta").state_dict())
    weights = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for key, tensor in shapes.items():
        is_scaled = key.startswith("layers.") and tensor.ndim == 2
        dtype = torch.float8_e4m3fn if is_scaled else torch.bfloat16
        weights[key] = torch.zeros(tensor.shape, dtype=dtype)
        if is_scaled:
            weights[key.replace(".weight", ".scale_weight")] = torch.ones(())
    save_file(weights, path)


def test_quantized_file_takes_half_the_memory_on_the_card(host, tmp_path, monkeypatch, dynamic):
    from lumina_next.host.model.loading import load_model_file

    path = tmp_path / "scaled.safetensors"
    write_scaled(path, CONFIGS["small"])
    with emulated_card(monkeypatch, dynamic=dynamic):
        patcher = use(load_model_file(str(path), {}, "SDXL"))
        out, _ = call(patcher, 1, 256)
        assert out.dtype == torch.float32 and out.device == CARD
        assert patcher.model_size() < 1.1 * path.stat().st_size


NOTICE = "does not compute in bfloat16"


@pytest.mark.parametrize(
    "kind, flag, stored, computed, is_told",
    [
        (AMPERE, None, torch.bfloat16, None, False),
        (AMPERE, "fp32_unet", torch.float32, None, False),
        (TURING, None, torch.float32, None, True),
        (TURING, "bf16_unet", torch.bfloat16, torch.float32, True),
        (TURING, "fp16_unet", torch.float16, None, False),
        (TURING, "fp32_unet", torch.float32, None, False),
    ],
)
def test_card_computes_in_what_it_has_and_float32_is_told(
    host, tmp_path, monkeypatch, caplog, kind, flag, stored, computed, is_told
):
    from comfy.cli_args import args

    if flag:
        monkeypatch.setattr(args, flag, True)
    with emulated_card(monkeypatch, kind), caplog.at_level(logging.INFO):
        patcher = use(model_of_zeros(tmp_path))
        out, _ = call(patcher, 1, 256)
    assert patcher.model.get_dtype() == stored
    assert patcher.model.manual_cast_dtype == computed
    assert (NOTICE in caplog.text) == is_told
