"""ComfyUI's nodes for several graphics cards on this MODEL, with two cards that are both the CPU.

Devices are compared by name and number, and torch takes "cpu:1" for the CPU: so the host makes a
clone for each card, and runs each prompt on its own in a thread of its own.
"""

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.loras import STYLES
from lumina_next.tests.support.native_graphs import differs, load, sample
from lumina_next.tests.support.tiny import assert_same_picture, count_forwards

FIRST, SECOND = torch.device("cpu"), torch.device("cpu", 1)


@pytest.fixture
def cards(host, monkeypatch):
    """ComfyUI that believes in two cards. Skips where it knows one at most, up to 0.18."""
    import comfy.model_management as management
    import nodes

    if "MultiGPU_WorkUnits" not in nodes.NODE_CLASS_MAPPINGS:
        pytest.skip("this ComfyUI has no nodes for several cards")
    both = [FIRST, SECOND]
    monkeypatch.setattr(management, "get_all_torch_devices", lambda exclude_current=False: both)
    yield both
    management.unload_all_models()


def split(model, most=2):
    return node("MultiGPU_WorkUnits", model=model, max_gpus=most)


def clone_of(model):
    (clone,) = model.get_additional_models_with_key("multigpu")
    return clone


def storages(patcher):
    return {tensor.untyped_storage().data_ptr() for tensor in patcher.model.parameters()}


def test_clone_has_a_network_of_its_own_with_the_same_weights(model, cards):
    clone = clone_of(split(model))
    assert clone.load_device == SECOND and clone.model is not model.model
    assert type(clone.model) is type(model.model)
    assert_close(clone.model.state_dict(), model.model.state_dict(), rtol=0, atol=0)
    assert clone.model.files.found == model.model.files.found


def test_change_of_the_clones_weights_leaves_the_model(model, cards):
    before = sample(model)
    clone = clone_of(split(model))
    key = "diffusion_model.layers.0.attention.wq.weight"
    clone.add_patches({key: ("diff", (torch.ones(32, 32),))})
    clone.patch_model()
    assert_close(sample(model), before, rtol=0, atol=0)


def test_split_run_draws_the_same_picture(model, cards):
    assert_same_picture(sample(split(model)), sample(model))


def test_each_card_computes_one_of_the_two_prompts(model, cards):
    model, seen = count_forwards(model)
    sample(split(model), steps=2)
    assert seen == [1, 1] * 2


CHANGES = {
    "LuminaNextLoraLoader": {"lora_name": "two-cards.safetensors", "strength": 1.0},
    "LuminaNextResolution": {
        "method": {"method": "ntk"}, "trained_size": 64, "isotropic": False,
        "proportional_attention": "on",
    },
    "LuminaNextGuidance": {
        "channels": "all", "start": 1.0, "end": 0.0, "renorm": 1.0, "rescale": 0.0,
        "zero_steps": 0,
    },
    "ModelSamplingAuraFlow": {"shift": 4.0},
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_nodes_change_counts_on_both_cards(host, model, cards, name):
    save_file(STYLES["diffusers"], host.models / "loras" / "two-cards.safetensors")
    changed = node(name, model=model, **CHANGES[name])
    assert_same_picture(sample(split(changed)), sample(changed))
    assert differs(sample(changed), sample(model))


@pytest.mark.parametrize("device", ["cpu", "default"])
def test_model_sent_to_another_device_draws_the_same_picture(model, cards, device):
    sent = node("SelectModelDevice", model=model, device=device)
    assert_same_picture(sample(sent), sample(model))


def test_one_card_alone_changes_nothing(model, cards):
    alone = split(model, most=1)
    assert not alone.get_additional_models_with_key("multigpu")
    assert_close(sample(alone), sample(load()), rtol=0, atol=0)
