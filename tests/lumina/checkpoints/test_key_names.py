"""Names of weights: diffusers' and others' become the released ones, and nothing is lost."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import architecture, key_names, loading
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.tests.support.next_dits import TINY, native_weights, quantized

# --- diffusers


def test_diffusers_keys_become_exactly_the_released_ones(theirs):
    native = key_names.to_native(theirs.state_dict())
    config = architecture.checked_config(native)
    assert config.kv_heads == theirs.config.num_kv_heads
    assert config.qk_norm == theirs.config.qk_norm
    assert native.keys() == native_weights(config).keys()


def test_diffusers_weights_mean_the_same_here(theirs):
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    torch.manual_seed(1)
    x, t = torch.randn(2, 4, 6, 8), torch.tensor([0.2, 0.7])
    caption, mask = torch.randn(2, 5, 24), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    with torch.no_grad():
        ours = loading.load_next_dit(theirs.state_dict())(x, t, caption, mask)
        expected = theirs(
            x, t, caption, mask, get_2d_rotary_pos_embed_lumina(8, 16, 16), {}, return_dict=False
        )[0]
    assert_close(ours, expected[:, :4])


def test_renaming_passes_the_tensors_themselves(theirs):
    given_tensors = theirs.state_dict()
    addresses = {tensor.data_ptr() for tensor in given_tensors.values()}
    native = key_names.to_native(given_tensors)
    model = loading.load_next_dit(given_tensors)
    assert {tensor.data_ptr() for tensor in native.values()} <= addresses
    assert {parameter.data_ptr() for parameter in model.parameters()} <= addresses


@pytest.mark.parametrize("attention", ["attn1", "attn2"])
def test_diffusers_fine_tune_with_two_queries_is_refused(theirs, attention):
    weights = theirs.state_dict()
    moved = [key for key in weights if f"layers.1.{attention}" in key and "q." in key]
    assert len(moved) == (3 if theirs.config.qk_norm else 1)
    for key in moved:
        tuned = weights | {key: weights[key] + 1e-3}
        with pytest.raises(ValueError, match=rf"^tuned\.pth.*in layer 1, .*{key[14:]}.* one query"):
            key_names.to_native(tuned, "tuned.pth")


STALE = {
    "x_embedder": "patch_embedder",
    "t_embedder.mlp.0": "time_caption_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_caption_embed.timestep_embedder.linear_2",
    "cap_embedder": "time_caption_embed.caption_embedder",
    "attention.gate": "gate",
    "attention.wq": "attn1.to_q",
    "attention.wk.": "attn1.to_k.",
    "attention.wv.": "attn1.to_v.",
    "attention.wk_y": "attn2.to_k",
    "attention.wv_y": "attn2.to_v",
    "attention.wo": "attn2.to_out.0",
    "attention.q_norm": "attn1.norm_q",
    "attention.k_norm": "attn1.norm_k",
    "attention.ky_norm": "attn2.norm_k",
    "attention_norm": "attn_norm",
    "attention_y_norm": "norm1_context",
    "feed_forward.w": "feed_forward.linear_",
}  # the rest is spelled as released


def test_names_of_the_stale_conversion_script_are_understood(weights):
    stale = {}
    for key, tensor in weights.items():
        for ours, old in STALE.items():
            key = key.replace(ours, old)
        stale[key] = tensor
    assert len(stale.keys() & weights.keys()) < len(weights) / 3
    native = key_names.to_native(stale)
    assert native.keys() == weights.keys()
    assert all(native[key] is weights[key] for key in weights)


# --- names


@pytest.mark.parametrize(
    "prefix",
    ["", "model.", "diffusion_model.", "model.diffusion_model.", "transformer.", "module."]
    + ["_orig_mod.", "module.model."],
)
def test_prefix_is_taken_off(weights, prefix):
    native = key_names.to_native({prefix + key: tensor for key, tensor in weights.items()})
    assert native.keys() == weights.keys()


def test_text_encoder_and_vae_in_the_same_file_are_left_out(weights):
    file = {f"model.diffusion_model.{key}": tensor for key, tensor in weights.items()}
    file["text_encoders.gemma.transformer.model.embed_tokens.weight"] = torch.ones(1)
    file["vae.decoder.conv_in.weight"] = torch.ones(1)
    assert key_names.to_native(file).keys() == weights.keys()


def test_unused_pad_token_is_left_out(weights):
    assert key_names.to_native({"pad_token": torch.ones(32), **weights}).keys() == weights.keys()


def test_module_keys_differ_in_the_gate_alone_and_turn_back(weights):
    module = key_names.to_module_keys(weights)
    assert module.keys() == NextDiT(TINY, device="meta").state_dict().keys()
    gates = {f"layers.{i}.attention.gate" for i in range(2)}
    assert weights.keys() - module.keys() == gates
    assert key_names.to_file_keys(module) == weights
    assert key_names.to_native(module) == weights  # a model saved by its own state_dict()


def test_two_values_of_one_weight_are_refused(weights):
    weights["patch_embedder.proj.bias"] = weights["x_embedder.bias"] + 1
    with pytest.raises(ValueError, match=r'two different values for "x_embedder\.bias"'):
        key_names.to_native(weights)


@pytest.mark.parametrize("file", [{}, {"head.weight": torch.ones(1)}])
def test_unknown_model_is_refused(file):
    with pytest.raises(
        ValueError, match=rf"^x\.pt is not a Lumina.*has {len(file)} weights?, none"
    ):
        key_names.to_native(file, "x.pt")


def test_scales_follow_their_weight_and_are_no_unknown_keys(weights):
    native = key_names.to_native(quantized(weights))
    assert native.keys() - weights.keys() == {
        "layers.0.attention.wk.scale_weight",
        "layers.1.attention.wk.weight_scale",
        "layers.1.attention.wk.comfy_quant",
        "scaled_fp8",
    }
    assert architecture.checked_config(native) == TINY


@pytest.mark.parametrize("number", ["256", "3000000", "9" * 5000])
def test_layer_that_no_model_has_is_refused_at_once(number):
    with pytest.raises(ValueError, match=r'^m\.pth is damaged: it has "layers\.\d+.* 256 layers'):
        key_names.layer_count([f"layers.{number}.w"], "layers.{}.", "m.pth")


def test_layers_are_counted():
    keys = ["layers.0.w", "layers.011.w", "layers.7.w", "x.layers.300.w"]
    assert key_names.layer_count(keys, "layers.{}.") == 12
    assert key_names.layer_count(["layers.255.w"], "layers.{}.") == 256
    assert key_names.layer_count([], "layers.{}.") == 1
