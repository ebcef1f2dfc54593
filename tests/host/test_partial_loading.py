"""Lumina-T2I 5B with LLaMA-2-7B on a card of 12 GB, seen without one: weights are loaded in part.

`tests/support/emulated_card.py` says what is real in it. Some layers of the true width stand for
all: the card is smaller by the layers that are left out, as if it held those already.
"""

import dataclasses

import pytest
import torch

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import FLAG_DIT_5B
from lumina_next.lumina.model.flag_dit import FlagDiT
from lumina_next.lumina.text_encoders.config import DecoderConfig
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.tests.support import tiny
from lumina_next.tests.support.emulated_card import (
    CARD,
    GIB,
    Allocations,
    Kind,
    emulated_card,
)
from lumina_next.tests.support.zero_files import write_zeros

CARD_MEMORY = 12 * GIB
MODEL_LAYERS, ENCODER_LAYERS = 3, 6
LLAMA = DecoderConfig(
    "llama", 32_000, 4096, 11_008, layers=32, heads=32, kv_heads=32, head_dim=128, norm_eps=1e-5
)
TOKENS = [[1, *range(5, 60), 2]]

# What torch says of weights that are loaded straight into a card without values.
pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")


def model_of_zeros(folder):
    from lumina_next.host.model.loading import load_model_file

    few = dataclasses.replace(FLAG_DIT_5B, layers=MODEL_LAYERS)
    weights = key_names.to_file_keys(FlagDiT(few, device="meta").state_dict())
    write_zeros(folder / "5b.safetensors", weights, torch.bfloat16)
    return load_model_file(str(folder / "5b.safetensors"), {}, "SDXL")


def encoder_of_zeros(folder):
    from lumina_next.host.text_encoders.loading import load_text_encoder_file

    few = dataclasses.replace(LLAMA, layers=ENCODER_LAYERS)
    path = folder / "llama.safetensors"
    write_zeros(path, Decoder(few, device="meta").state_dict(), torch.bfloat16)
    (folder / "llama.tokenizer.model").write_bytes(tiny.pieces("llama"))
    return load_text_encoder_file(str(path), {})


def absent_bytes(network, config, layers_here):
    """What the layers that are left out would take."""
    one, two = (
        size_of(network(dataclasses.replace(config, layers=count), device="meta"))
        for count in (1, 2)
    )
    return (config.layers - layers_here) * (two - one)


def size_of(network):
    return sum(tensor.numel() for tensor in network.parameters()) * torch.bfloat16.itemsize


def card_with(allocations, memory):
    return Kind(memory=memory, taken=lambda: allocations.live)


def call(patcher):
    """One call at 1024 px for both prompts, after ComfyUI has loaded what it has room for."""
    import comfy.model_management as management

    latent = torch.empty(2, 4, 128, 128, device=CARD)
    management.load_models_gpu([patcher], memory_required=patcher.memory_required(latent.shape))
    return patcher.model.apply_model(
        latent,
        torch.empty(2, device=CARD),
        c_crossattn=torch.empty(2, 64, FLAG_DIT_5B.caption_dim, device=CARD),
        transformer_options={},
    )


def features(clip):
    import comfy.model_management as management

    management.load_models_gpu([clip.patcher])
    encoder = clip.cond_stage_model.llama_2
    encoder.set_clip_options({"execution_device": CARD})
    return encoder(TOKENS)[0]


def test_models_do_not_fit_together():
    both = (
        size_of(network(config, device="meta"))
        for network, config in ((FlagDiT, FLAG_DIT_5B), (Decoder, LLAMA))
    )
    assert sum(both) > 1.8 * CARD_MEMORY


def test_model_with_a_call_at_1024_px_fits_into_the_card(host, tmp_path, monkeypatch):
    absent = absent_bytes(FlagDiT, FLAG_DIT_5B, MODEL_LAYERS)
    allocations = Allocations()
    with emulated_card(monkeypatch, card_with(allocations, CARD_MEMORY - absent)):
        patcher = model_of_zeros(tmp_path)
        with allocations:
            out = call(patcher)
    assert out.shape == (2, 4, 128, 128) and out.device == CARD
    assert patcher.loaded_size() == patcher.model_size()
    assert absent + allocations.peak < CARD_MEMORY


def test_model_larger_than_the_card_is_streamed_within_it(host, tmp_path, monkeypatch):
    memory = 7 * GIB // 4  # the weights that are here and a call would take 2.2
    allocations = Allocations()
    with emulated_card(monkeypatch, card_with(allocations, memory)):
        patcher = model_of_zeros(tmp_path)
        with allocations:
            call(patcher)
    assert 0 < patcher.loaded_size() < patcher.model_size()
    assert allocations.peak < memory


def test_encoder_larger_than_the_card_is_streamed_within_it(host, tmp_path, monkeypatch):
    absent = absent_bytes(Decoder, LLAMA, ENCODER_LAYERS)
    allocations = Allocations()
    with emulated_card(monkeypatch, card_with(allocations, CARD_MEMORY - absent)), allocations:
        clip = encoder_of_zeros(tmp_path)
        # Without what "meta", which takes no memory, stood for while the network was built.
        allocations.peak = allocations.live
        out = features(clip)
    assert out.shape == (1, len(TOKENS[0]), LLAMA.hidden_size)
    assert 0 < clip.patcher.loaded_size() < clip.patcher.model_size()
    assert absent + allocations.peak < CARD_MEMORY
