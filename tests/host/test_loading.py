"""Loaded files behave as MODEL and CLIP should: same pictures as plain torch, whatever the format.

The oracle is `lumina.model.NextDiT` on torch's own layers, stepped by Euler's rule in this file, and
transformers for the text encoder. All weights are random and tiny; float32 throughout.
"""

import dataclasses
import io
import json
import logging
import time

import pytest
import sentencepiece
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.lumina import key_names, prompt
from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model import NextDiT

CONFIG = NextDiTConfig(dim=32, layers=3, heads=4, kv_heads=2, caption_dim=24, ffn_dim=88)
SHARDS = ("weights-00001-of-00002.safetensors", "weights-00002-of-00002.safetensors")


@pytest.fixture(scope="module", autouse=True)
def single_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def inference():
    """ComfyUI runs every node under it."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def diffusers_weights():
    """A random model of diffusers, both its queries the same as its conversion leaves them."""
    from diffusers import LuminaNextDiT2DModel  # seconds to import

    torch.manual_seed(0)
    model = LuminaNextDiT2DModel(
        sample_size=16, hidden_size=32, num_layers=3, num_attention_heads=4, num_kv_heads=2,
        multiple_of=8, cross_attention_dim=24, qk_norm=True, norm_eps=1e-5,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.1)
    for layer in model.layers:
        layer.attn2.to_q.load_state_dict(layer.attn1.to_q.state_dict())
        layer.attn2.norm_q.load_state_dict(layer.attn1.norm_q.state_dict())
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def weights(diffusers_weights):
    """The same under the released names."""
    return key_names.to_native(diffusers_weights)


@pytest.fixture(scope="module")
def folder(host, weights, diffusers_weights):
    """The same model in several formats in models/diffusion_models."""
    folder = host.models / "diffusion_models"
    save_file(weights, folder / "native.safetensors")
    torch.save(weights, folder / "consolidated.00-of-01.pth")
    save_file(diffusers_weights, folder / "diffusers.safetensors")
    save_shards(weights, folder / "sharded")
    return folder


def save_shards(weights, folder):
    folder.mkdir(exist_ok=True)
    keys = list(weights)
    halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    for name, half in zip(SHARDS, halves, strict=True):
        save_file({key: weights[key] for key in half}, folder / name)
    index = {key: name for name, half in zip(SHARDS, halves, strict=True) for key in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


@pytest.fixture
def load(folder):
    from lumina_next.host import loading

    return loading.load_model


def plain_model(weights):
    model = NextDiT(CONFIG)
    model.load_state_dict(key_names.to_module_keys(weights))
    return model.eval()


def conditioning(tokens, seed, mask=None):
    torch.manual_seed(seed)
    caption = torch.randn(1, tokens, CONFIG.caption_dim)
    return [[caption, {"attention_mask": torch.ones(1, tokens) if mask is None else mask}]]


POSITIVE, NEGATIVE = conditioning(11, 1), conditioning(5, 2)
STEPS, GUIDANCE = 3, 4.0


def ksampler(model, height=16, width=12, cfg=GUIDANCE, positive=POSITIVE, negative=NEGATIVE):
    """What KSampler makes of noise 7: a latent as LATENT carries it."""
    import nodes

    latent = {"samples": torch.zeros(1, 4, height, width)}
    (out,) = nodes.common_ksampler(
        model, 7, STEPS, cfg, "euler", "normal", positive, negative, latent
    )
    return out["samples"]


def euler(velocity, sigmas, height, width, scale=0.13025):
    """The same by hand. velocity(x, t, caption): picture - noise of plain torch."""
    x = torch.randn(1, 4, height, width, generator=torch.manual_seed(7))
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        t = torch.full((1,), 1 - float(sigma))
        wanted, unwanted = (velocity(x, t, c[0][0]) for c in (POSITIVE, NEGATIVE))
        guided = unwanted + GUIDANCE * (wanted - unwanted)
        v = torch.cat([guided[:, :3], wanted[:, 3:]], dim=1)
        x = x + (sigma - after) * v
    return x / scale


def assert_same_picture(found, expected):
    """Within 1e-5 of the spread: guidance and steps multiply what rounding leaves of one pass."""
    assert found.shape == expected.shape
    assert_close(found / expected.std(), expected / expected.std(), rtol=0, atol=1e-5)


def sigmas_of(model):
    import comfy.samplers

    sampling = model.get_model_object("model_sampling")
    return comfy.samplers.calculate_sigmas(sampling, "normal", STEPS)


def count_forwards(model):
    """A clone of `model` and the list that each of its forward passes adds a batch size to."""
    import comfy.patcher_extension

    seen = []

    def note(executor, x, *args, **kwargs):
        seen.append(len(x))
        return executor(x, *args, **kwargs)

    model = model.clone()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(kind, "count", note)
    return model, seen


# --- pictures


@pytest.mark.parametrize(
    "name",
    ["native.safetensors", "diffusers.safetensors", "sharded", "consolidated.00-of-01.pth"],
)
def test_every_format_samples_the_picture_of_plain_torch(load, weights, name):
    model = load(name)
    expected = euler(plain_model(weights), sigmas_of(model), 16, 12)
    assert_same_picture(ksampler(model), expected)


def test_odd_latents_are_padded_and_cropped(load, weights):
    model, plain = load("native.safetensors"), plain_model(weights)

    def velocity(x, t, caption):
        return plain(F.pad(x, (0, 1, 0, 1), mode="circular"), t, caption)[:, :, :-1, :-1]

    expected = euler(velocity, sigmas_of(model), 15, 11)
    assert_same_picture(ksampler(model, 15, 11), expected)
