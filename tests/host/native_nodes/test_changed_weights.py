"""LoRA, merging, saving and compiling by ComfyUI's own nodes on this MODEL."""

import functools
import gc
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import encode, node
from lumina_next.tests.support.native_graphs import (
    DEMO_VAE,
    GUIDANCE,
    differs,
    guess,
    guided,
    load,
    sample,
)
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE, assert_same_picture

KEYS = (
    "layers.0.attention.wq.weight",
    "layers.1.attention.gate",
    "layers.2.feed_forward.w2.weight",
    "layers.2.adaLN_modulation.1.weight",
    "final_layer.linear.weight",
)


def kohya(name):
    name = "lora_unet_" + name.replace(".", "_")
    return f"{name}.lora_up.weight", f"{name}.lora_down.weight"


def as_in_the_model(name):
    return f"diffusion_model.{name}.lora_B.weight", f"diffusion_model.{name}.lora_A.weight"


@functools.cache
def factors():
    """Of each key, the two factors of the change that the LoRA makes."""
    generator = torch.Generator().manual_seed(4)

    def draw(*shape):
        return 0.3 * torch.randn(shape, generator=generator)

    shapes = {key: tiny.weights()[key].shape for key in KEYS}
    return {key: (draw(shape[0], 2), draw(2, *shape[1:])) for key, shape in shapes.items()}


@pytest.fixture
def lora(host):
    """lora(names) writes the LoRA under such names: the file's own, for LoRA loaders."""

    def write(names):
        tensors = {}
        for key, (up, down) in factors().items():
            up_key, down_key = names(key.removesuffix(".weight"))
            # Of a head gate, a vector, the second factor is a column.
            tensors[up_key], tensors[down_key] = up, down.view(2, -1)
        save_file(tensors, host.models / "loras" / f"{names.__name__}.safetensors")
        return f"{names.__name__}.safetensors"

    return write


@pytest.fixture
def changed(host, model):
    """changed(strength): the model with the LoRA's changes added to its file by hand."""

    def write(strength):
        weights = dict(tiny.weights())
        for key, (up, down) in factors().items():
            change = (up @ down.view(2, -1)).view(weights[key].shape)
            weights[key] = weights[key] + strength * change
        name = f"changed-{strength}.safetensors"
        save_file(weights, host.models / "diffusion_models" / name)
        return load(name)

    return write


@pytest.mark.parametrize("names", [kohya, as_in_the_model])
def test_lora_adds_its_change_to_every_weight(model, lora, changed, names):
    patched = node("LoraLoaderModelOnly", model=model, lora_name=lora(names), strength_model=0.5)
    assert_same_picture(sample(patched), sample(changed(0.5)))
    assert differs(sample(patched), sample(model))


def test_lora_hook_patches_the_prompt_it_hangs_on(model, lora, changed):
    name = lora(kohya)
    hooks = node("CreateHookLora", lora_name=name, strength_model=1.0, strength_clip=0.0)
    hooked = node(
        "ConditioningSetProperties", cond_NEW=POSITIVE, strength=1.0, set_cond_area="default",
        hooks=hooks,
    )  # fmt: skip
    expected = guided(guess(changed(1.0)), guess(model, NEGATIVE))
    assert_same_picture(guess(model, hooked, cfg=GUIDANCE), expected)
    assert_close(guess(model), guess(load()), rtol=0, atol=0)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 0.5])
def test_merged_model_is_the_mean_of_the_weights(host, model, changed, ratio):
    merged = node("ModelMergeSimple", model1=model, model2=changed(1.0), ratio=ratio)
    assert_same_picture(sample(merged), sample(changed(1.0 - ratio)))


def test_saved_checkpoint_is_loaded_again_to_the_bit(host, model, clip, lora, changed):
    patched = node("LoraLoaderModelOnly", model=model, lora_name=lora(kohya), strength_model=1.0)
    vae = node("VAELoader", vae_name=DEMO_VAE.name)
    node("CheckpointSave", model=patched, clip=clip, vae=vae, filename_prefix="whole")
    (saved,) = host.output.glob("whole*.safetensors")
    weights = load_file(saved)
    for kind in ("diffusion_models", "text_encoders"):
        save_file(weights, host.models / kind / "whole.safetensors", tiny.GEMMA_METADATA)
    saved.unlink()

    again = load("whole.safetensors")
    assert_close(sample(again), sample(patched), rtol=0, atol=0)
    found = node(
        "LuminaNextTextEncoderLoader", text_encoder_name="whole.safetensors", device="default"
    )
    assert_close(encode(found, "a red cat"), encode(clip, "a red cat"), rtol=0, atol=0)


def test_saved_model_is_loaded_again_to_the_bit(host, model):
    node("ModelSave", model=model, filename_prefix="alone")
    (saved,) = host.output.glob("alone*.safetensors")
    saved.rename(host.models / "diffusion_models" / "alone.safetensors")
    again = load("alone.safetensors")
    assert_close(again.model.state_dict(), model.model.state_dict(), rtol=0, atol=0)


def test_unloaded_model_leaves_nothing_behind_and_comes_back(model):
    import comfy.model_management as management

    before = sample(model)
    assert management.loaded_models()
    management.unload_all_models()
    assert not management.loaded_models()
    assert_close(sample(model), before, rtol=0, atol=0)
    management.unload_all_models()


def test_dropped_model_is_freed(model):
    import comfy.model_management as management

    dropped = load()
    sample(dropped)
    network = weakref.ref(dropped.model.diffusion_model)
    management.unload_all_models()
    del dropped
    gc.collect()
    assert network() is None
