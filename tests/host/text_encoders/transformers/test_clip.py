"""Any text model as CLIP in the host."""

import copy
import logging

import pytest
import torch
from torch.testing import assert_close

from lumina_next.tests.support.any_text_models import (
    ENCODERS,
    TEMPLATES,
    expected_state,
    host_model,
    host_state,
    load_clip,
    oracle,
    states,
)
from lumina_next.tests.support.host_nodes import encode
from lumina_next.tests.support.token_rows import ALL


@pytest.mark.parametrize(
    "kind, text",
    [(kind, text) for kind in TEMPLATES for text in ("a red cat and a dog", "sit")]
    + [(kind, "") for kind in TEMPLATES if kind != "qwen2"],  # which makes no token of it
)
def test_prompt_features_are_the_state_that_is_right_for_the_model(kind, text):
    features, rest = encode(load_clip(kind), text)
    assert_close(features, expected_state(kind, text, -1 if kind in ENCODERS else -2))
    assert rest["attention_mask"].tolist() == [[1] * features.shape[1]]
    assert rest["pooled_output"] is None


def test_model_is_built_once(monkeypatch):
    from transformers import AutoModel

    build, built = AutoModel.from_config, []
    oracle("qwen2")
    monkeypatch.setattr(
        AutoModel, "from_config", lambda config, **given: built.append(1) or build(config, **given)
    )
    load_clip("qwen2")
    assert built == [1]


def test_prompt_of_padding_alone_is_hidden_and_finite():
    clip = load_clip("qwen2")
    found = clip.encode_from_tokens(clip.tokenize("", min_length=1), return_dict=True)
    assert found["attention_mask"].tolist() == [[0]]
    assert found["cond"].shape == (1, 1, 32) and found["cond"].isfinite().all()


@pytest.mark.parametrize("layer", [-1, -2, -3, -4])
@pytest.mark.parametrize("kind", ["qwen2", "mt5"])
def test_last_layer_node_counts_as_transformers(kind, layer):
    clip = load_clip(kind).clone()
    clip.clip_layer(layer)
    assert_close(encode(clip, "a red cat")[0], expected_state(kind, "a red cat", layer))


@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text"])
def test_prompt_weight_changes_its_own_tokens_only(kind):
    clip = load_clip(kind)
    (plain, _), (weighted, _) = (encode(clip, f"a red (cat:{w})") for w in ("1.0", "1.5"))
    different = (plain - weighted).abs().amax(-1)[0] > 1e-6
    assert different.tolist() == [False] * (len(different) - 1) + [True]


def with_changes(kind):
    """What a LoRA adds to one projection and to one norm, and the model it amounts to."""
    model, changes = copy.deepcopy(oracle(kind)), {}
    for name in ("layers.1.mlp.up_proj", "layers.2.input_layernorm"):
        weight = model.get_submodule(name).weight
        change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)) / 4
        weight.data += change
        changes[name] = change
    return changes, model


def test_lora_reaches_projections_and_norms():
    import comfy.sd

    changes, model = with_changes("gemma3_text")
    prefix = "text_encoders.transformers_model.transformer.model."
    lora = {f"{prefix}{name}.diff": change for name, change in changes.items()}
    clip = load_clip("gemma3_text")
    _, patched = comfy.sd.load_lora_for_models(None, clip, lora, 0, 1.0)
    expected = expected_state("gemma3_text", "a red cat", -2, model)
    assert_close(encode(patched, "a red cat")[0], expected)


def test_partly_loaded_model_gives_the_same_features():
    import comfy.model_patcher

    changes, expected = with_changes("gemma3_text")
    model, cpu = host_model("gemma3_text", oracle("gemma3_text").state_dict()), torch.device("cpu")
    before = model.state_dict()
    patcher = comfy.model_patcher.ModelPatcher(model, cpu, cpu)
    patches = {f"model.{name}.weight": ("diff", (changes[name],)) for name in changes}
    assert len(patcher.add_patches(patches)) == 2
    patcher.load(cpu, lowvram_model_memory=64)
    assert model.model_lowvram and patcher.lowvram_patch_counter() == 2
    assert_close(host_state(model), states(expected, ALL)[-2])
    assert_close(model.state_dict(), before, rtol=0, atol=0)  # streamed, not written


def test_scaled_fp8_weights_are_loaded_at_their_scale():
    model, weights = copy.deepcopy(oracle("qwen2")), {}
    for key, tensor in model.state_dict().items():
        weights[f"model.{key}"] = tensor
        if "_proj.weight" in key:
            scale = tensor.abs().max() / 448
            packed = (tensor / scale).to(torch.float8_e4m3fn)
            weights[f"model.{key}"] = packed
            weights[f"model.{key}".replace(".weight", ".scale_weight")] = scale
            tensor.copy_(packed.float() * scale)
    weights["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    clip = load_clip("qwen2", weights)
    expected = expected_state("qwen2", "a red cat", -2, model)
    assert_close(encode(clip, "a red cat")[0], expected)


def test_saved_text_encoder_loads_again():
    clip = load_clip("gemma3_text")
    saved = getattr(clip, "state_dict_for_saving", clip.get_sd)()
    again = load_clip("gemma3_text", saved)
    assert_close(encode(again, "a dog")[0], encode(clip, "a dog")[0], rtol=0, atol=0)


def test_nothing_is_logged_about_missing_weights(caplog):
    with caplog.at_level(logging.WARNING):
        load_clip("qwen2")
    assert not [record for record in caplog.records if "missing" in record.getMessage()]
