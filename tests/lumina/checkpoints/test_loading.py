"""Key names against the live diffusers class, the architecture from shapes, and what is refused."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import architecture, key_names, loading, shards
from lumina_next.lumina.config import NEXT_DIT_2B, NEXT_DIT_2B_GQA, NextDiTConfig
from lumina_next.lumina.model.next_dit import NextDiT

TINY = NextDiTConfig(dim=32, layers=2, heads=4, kv_heads=2, caption_dim=24, ffn_dim=64)


def native_weights(config=TINY, device="cpu"):
    """Random weights of a model under the released names."""
    torch.manual_seed(0)
    shapes = key_names.to_file_keys(NextDiT(config, device="meta").state_dict())
    return {key: torch.randn(value.shape, device=device) for key, value in shapes.items()}


@pytest.fixture
def weights():
    return native_weights()


@pytest.fixture(scope="module", params=[(4, True), (2, True), (1, False)], ids=str)
def theirs(request):
    """A random diffusers model saved as its conversion would: both queries the same."""
    from diffusers import LuminaNextDiT2DModel  # seconds to import

    kv_heads, qk_norm = request.param
    torch.manual_seed(0)
    model = LuminaNextDiT2DModel(
        sample_size=16, hidden_size=32, num_layers=2, num_attention_heads=4, num_kv_heads=kv_heads,
        multiple_of=8, cross_attention_dim=24, qk_norm=qk_norm, norm_eps=1e-5,
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for layer in model.layers:
        layer.attn2.to_q.load_state_dict(layer.attn1.to_q.state_dict())
        if qk_norm:
            layer.attn2.norm_q.load_state_dict(layer.attn1.norm_q.state_dict())
    return model.eval()


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


# --- architecture from shapes


def released_table(kv):
    """All 567 tensors of a released 2B file with keys `kv` wide, written out."""
    table = {
        "pad_token": [2304],
        "x_embedder.weight": [2304, 16],
        "x_embedder.bias": [2304],
        "t_embedder.mlp.0.weight": [1024, 256],
        "t_embedder.mlp.0.bias": [1024],
        "t_embedder.mlp.2.weight": [1024, 1024],
        "t_embedder.mlp.2.bias": [1024],
        "cap_embedder.0.weight": [2048],
        "cap_embedder.0.bias": [2048],
        "cap_embedder.1.weight": [1024, 2048],
        "cap_embedder.1.bias": [1024],
        "final_layer.linear.weight": [32, 2304],
        "final_layer.linear.bias": [32],
        "final_layer.adaLN_modulation.1.weight": [2304, 1024],
        "final_layer.adaLN_modulation.1.bias": [2304],
    }
    layer = {
        "attention.gate": [32],
        "attention.wq.weight": [2304, 2304],
        "attention.wk.weight": [kv, 2304],
        "attention.wv.weight": [kv, 2304],
        "attention.wk_y.weight": [kv, 2048],
        "attention.wv_y.weight": [kv, 2048],
        "attention.wo.weight": [2304, 2304],
        "attention.q_norm.weight": [2304],
        "attention.q_norm.bias": [2304],
        "attention.k_norm.weight": [kv],
        "attention.k_norm.bias": [kv],
        "attention.ky_norm.weight": [kv],
        "attention.ky_norm.bias": [kv],
        "feed_forward.w1.weight": [6144, 2304],
        "feed_forward.w2.weight": [2304, 6144],
        "feed_forward.w3.weight": [6144, 2304],
        "attention_norm1.weight": [2304],
        "attention_norm2.weight": [2304],
        "ffn_norm1.weight": [2304],
        "ffn_norm2.weight": [2304],
        "adaLN_modulation.1.weight": [9216, 1024],
        "adaLN_modulation.1.bias": [9216],
        "attention_y_norm.weight": [2048],
    }
    table |= {f"layers.{i}.{key}": shape for i in range(24) for key, shape in layer.items()}
    return {key: torch.empty(shape, device="meta") for key, shape in table.items()}


@pytest.mark.parametrize(
    "kv, config, parameters",
    [(576, NEXT_DIT_2B_GQA, 1_627_386_400), (2304, NEXT_DIT_2B, 1_988_524_576)],
)
def test_released_files_are_recognized(kv, config, parameters):
    table = released_table(kv)
    assert len(table) == 567
    assert sum(tensor.numel() for tensor in table.values()) == parameters
    assert architecture.checked_config(key_names.to_native(table)) == config


@settings(max_examples=25, deadline=None)
@given(
    head_dim=st.sampled_from([4, 8, 12]),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    layers=st.integers(1, 3),
    caption_dim=st.integers(1, 40),
    ffn_dim=st.integers(1, 40),
    in_channels=st.sampled_from([1, 4, 16]),
    qk_norm=st.booleans(),
    learn_sigma=st.booleans(),
)
def test_architecture_is_read_back_from_any_model(head_dim, kv_heads, group, **fields):
    heads = kv_heads * group
    config = NextDiTConfig(dim=head_dim * heads, heads=heads, kv_heads=kv_heads, **fields)
    model = NextDiT(config, device="meta")
    native = key_names.to_native(model.state_dict())
    assert architecture.config_from_state_dict(native) == config
    assert architecture.checked_config(native) == config


def test_architecture_is_read_from_weights_packed_in_four_bits(weights):
    for key, tensor in weights.items():
        if tensor.ndim == 2:
            weights[key] = torch.zeros(len(tensor), tensor.shape[1] // 2, dtype=torch.uint8)
    assert architecture.checked_config(weights) == TINY


# --- strictness


@pytest.mark.parametrize("lost", ["layers.1.ffn_norm2.weight", "layers.0.attention.gate"])
def test_missing_weight_is_named(weights, lost):
    del weights[lost]
    with pytest.raises(
        ValueError, match=rf'^cut\.pth is incomplete: .*"{lost}".*download it again'
    ):
        architecture.checked_config(weights, "cut.pth")


def test_missing_weights_are_counted(weights):
    whole = len(weights)
    partial = {key: tensor for key, tensor in weights.items() if "layers.1.feed" not in key}
    with pytest.raises(ValueError, match=rf"3 of {whole} weights are missing"):
        architecture.checked_config(partial)


def test_layer_missing_in_the_middle_is_noticed():
    weights = native_weights(dataclasses.replace(TINY, layers=3))
    weights = {key: tensor for key, tensor in weights.items() if "layers.1." not in key}
    with pytest.raises(ValueError, match=r'"layers\.1\.adaLN_modulation\.1\.bias"'):
        architecture.checked_config(weights)


def test_unknown_weight_is_named(weights):
    weights["layers.0.attention.extra.weight"] = torch.ones(3)
    with pytest.raises(ValueError, match=r'1 weight .*"layers\.0\.attention\.extra\.weight"'):
        architecture.checked_config(weights)


def test_weight_of_another_shape_is_named_with_both(weights):
    weights["layers.1.attention_norm1.weight"] = torch.ones(33)
    with pytest.raises(ValueError, match=r'"layers\.1\.attention_norm1\.weight" is 33 .* 32'):
        architecture.checked_config(weights)


def test_sizes_that_no_model_has_are_refused(weights):
    weights["final_layer.linear.bias"] = torch.ones(30)
    with pytest.raises(ValueError, match="reads 16 numbers for each patch and writes 30"):
        architecture.checked_config(weights)
    weights = native_weights() | {"layers.0.attention.gate": torch.ones(5)}
    with pytest.raises(ValueError, match="width 32 cannot be divided into 5 heads"):
        architecture.checked_config(weights)


WRONG = {
    "layers.0.attention.wq.lora_A.weight": "a LoRA.*Load LoRA",
    "lora_unet_layers_0_attention_wq.lora_down.weight": "a LoRA",
    "diffusion_model.layers.0.attention.gate.diff": "a LoRA",
    "context_refiner.0.attention.qkv.weight": "Lumina-Image 2.0.*Load Diffusion Model",
    "model.diffusion_model.noise_refiner.1.attention.out.weight": "Z-Image.*Load Diffusion Model",
    "eol_token": "Lumina-T2I 5B",
    "y_embedder.embedding_table.weight": "ImageNet",
    "layers.3.feed_forward.experts.0.w1.weight": "mixture-of-experts",
    "layers.3.feed_forward_time.experts.0.w1.weight": "mixture-of-experts",
    "model.diffusion_model.blocks.0.attention.wk_y.weight": "sound",
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "single_transformer_blocks.0.attn.to_q.weight": "Flux",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "Stable Diffusion 3",
    "model.diffusion_model.label_emb.0.0.weight": "Stable Diffusion XL.*Load Checkpoint",
    "model.diffusion_model.input_blocks.0.0.weight": "Stable Diffusion 1.*Load Checkpoint",
    "down_blocks.0.resnets.0.conv1.weight": "Stable Diffusion 1",
    "transformer_blocks.0.attn1.to_q.weight": "diffusers format",
    "model.embed_tokens.weight": "a text encoder.*Load Lumina-Next Text Encoder",
    "model.layers.7.self_attn.q_proj.weight": "a text encoder",
    "encoder.block.0.layer.0.SelfAttention.k.weight": "a text encoder.*Load CLIP",
    "text_model.encoder.layers.0.self_attn.k_proj.weight": "a text encoder",
    "first_stage_model.decoder.conv_in.weight": "a VAE.*Load VAE",
    "decoder.conv_in.weight": "a VAE",
}


@pytest.mark.parametrize("key, said", WRONG.items(), ids=WRONG)
def test_wrong_model_is_named_with_what_to_do(key, said):
    file = {
        "model.diffusion_model.out.2.weight": torch.ones(1),
        key: torch.ones(1),
        "first_stage_model.decoder.conv_in.weight": torch.ones(1),
    }
    with pytest.raises(ValueError, match=rf"^other\.safetensors is not a Lumina-Next.*{said}"):
        key_names.to_native(file, "other.safetensors")


@pytest.mark.parametrize("file", [{}, {"head.weight": torch.ones(1)}])
def test_unknown_model_is_refused(file):
    with pytest.raises(
        ValueError, match=rf"^x\.pt is not a Lumina.*has {len(file)} weights?, none"
    ):
        key_names.to_native(file, "x.pt")


def test_older_relatives_that_share_most_names_are_told_apart(weights):
    """Each is a Next-DiT's weights plus what only that relative has."""
    for key in ("eol_token", "noise_refiner.0.attention.wk.weight", "y_embedder.embedding_table.w"):
        with pytest.raises(ValueError, match="is not a Lumina-Next model but"):
            key_names.to_native(weights | {key: torch.ones(1)})


# --- quantized files


def quantized(weights):
    """A diffusers-style key scaled in 8 bits, in the older and the newer manner."""
    weights = dict(weights)
    for i, scale in enumerate(["scale_weight", "weight_scale"]):
        weight = weights.pop(f"layers.{i}.attention.wk.weight")
        weights[f"layers.{i}.attn1.to_k.weight"] = weight.to(torch.float8_e4m3fn)
        weights[f"layers.{i}.attn1.to_k.{scale}"] = torch.tensor(1.0)
    weights["layers.1.attn1.to_k.comfy_quant"] = torch.zeros(4, dtype=torch.uint8)
    weights["scaled_fp8"] = torch.empty(2, dtype=torch.float8_e4m3fn)
    return weights


def test_scales_follow_their_weight_and_are_no_unknown_keys(weights):
    native = key_names.to_native(quantized(weights))
    assert native.keys() - weights.keys() == {
        "layers.0.attention.wk.scale_weight",
        "layers.1.attention.wk.weight_scale",
        "layers.1.attention.wk.comfy_quant",
        "scaled_fp8",
    }
    assert architecture.checked_config(native) == TINY


def test_scale_of_an_unknown_module_is_named(weights):
    weights["layers.0.attention.extra.weight_scale"] = torch.ones(1)
    with pytest.raises(ValueError, match=r"extra\.weight_scale"):
        architecture.checked_config(weights)


def test_plain_loading_refuses_what_torch_cannot_compute(weights):
    with pytest.raises(ValueError, match="is quantized"):
        loading.load_next_dit(quantized(weights))
    eight_bit = {key: tensor.to(torch.float8_e4m3fn) for key, tensor in weights.items()}
    with pytest.raises(ValueError, match=r"float8_e4m3fn.*pass the dtype"):
        loading.load_next_dit(eight_bit)
    model = loading.load_next_dit(eight_bit, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


# --- files of several parts


def save_sharded(folder, weights):
    keys = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": keys[::2]}
    halves["model-00002-of-00002.safetensors"] = keys[1::2]
    for name, part in halves.items():
        save_file({key: weights[key] for key in part}, folder / name)
    index = {"weight_map": {key: name for name, part in halves.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("choice", ["", "model.safetensors.index.json"])
def test_sharded_model_is_the_model_it_was_saved_from(tmp_path, weights, choice):
    save_sharded(tmp_path, weights)
    model = loading.load_next_dit(tmp_path / choice)
    assert model.config == TINY
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert_close(key_names.to_file_keys(model.state_dict()), weights, rtol=0, atol=0)


def test_released_pth_is_loaded(tmp_path, weights):
    torch.save({"pad_token": torch.ones(32), **weights}, tmp_path / "consolidated.00-of-01.pth")
    (tmp_path / "model_args.pth").write_bytes(b"not to be touched")
    model = loading.load_next_dit(tmp_path)
    assert_close(key_names.to_file_keys(model.state_dict()), weights, rtol=0, atol=0)


def test_loading_names_the_file(tmp_path, weights):
    del weights["layers.1.ffn_norm2.weight"]
    save_file(weights, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"^cut\.safetensors is incomplete"):
        loading.load_next_dit(tmp_path / "cut.safetensors")


FIRST_AXIS = ["gate", "wq", "wk", "wv", "wk_y", "wv_y", "w1", "w3", "x_embedder", "mlp.0"]
FIRST_AXIS += ["cap_embedder.1", "adaLN_modulation.1", "linear"]
SECOND_AXIS = ["wo.weight", "w2.weight", "mlp.2.weight"]


def as_rank(weights, rank, ranks=2):
    """One rank's share of the weights, as the training code splits them."""
    share = {}
    for key, tensor in weights.items():
        if key.removesuffix(".weight").removesuffix(".bias").endswith(tuple(FIRST_AXIS)):
            tensor = tensor.chunk(ranks)[rank]
        elif key.endswith(tuple(SECOND_AXIS)):
            tensor = tensor.chunk(ranks, dim=1)[rank]
        share[key] = tensor.clone()
    return share


def test_model_parallel_parts_are_joined(tmp_path):
    weights = native_weights(dataclasses.replace(TINY, qk_norm=False))
    for rank in (0, 1):
        torch.save(as_rank(weights, rank), tmp_path / f"consolidated.0{rank}-of-02.pth")
    model = loading.load_next_dit(tmp_path / "consolidated.00-of-02.pth")
    assert_close(key_names.to_file_keys(model.state_dict()), weights, rtol=0, atol=0)


def test_model_parallel_parts_with_normalized_queries_are_refused(weights):
    parts = [as_rank(weights, rank) for rank in (0, 1)]
    with pytest.raises(ValueError, match="^c.00-of-02.pth is one of 2.*normalizes.*00-of-01"):
        shards.merge(parts, "c.00-of-02.pth")


def test_parts_of_two_models_are_refused():
    weights = native_weights(dataclasses.replace(TINY, qk_norm=False))
    parts = [as_rank(weights, rank) for rank in (0, 1)]
    parts[1]["layers.0.ffn_norm1.weight"] += 1
    with pytest.raises(ValueError, match=r'different models.*"layers\.0\.ffn_norm1\.weight"'):
        shards.merge(parts)
    with pytest.raises(ValueError, match=r'"x_embedder\.bias" is in more than one'):
        shards.merge([{"x_embedder.bias": torch.ones(1), "a": torch.ones(1)}, weights])
