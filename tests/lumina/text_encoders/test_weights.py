"""Decoders from files: sizes, names, and what is refused."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.text_encoders.config import FAMILIES, DecoderConfig
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.lumina.text_encoders.weights import decoder_config, load_decoder, to_native
from lumina_next.tests.support.decoders import CONFIG_JSON, oracle, tiny_file
from lumina_next.tests.support.token_rows import ALL, TOKENS

GEMMA_2B = DecoderConfig(
    "gemma", 256_000, 2048, 16_384, layers=18, heads=8, kv_heads=1, head_dim=256
)
LLAMA_2_7B = DecoderConfig(
    "llama", 32_000, 4096, 11_008, layers=32, heads=32, kv_heads=32, head_dim=128, norm_eps=1e-5
)
LLAMA_2_13B = dataclasses.replace(
    LLAMA_2_7B, hidden_size=5120, intermediate_size=13_824, layers=40, heads=40, kv_heads=40
)
GEMMA_7B = DecoderConfig(
    "gemma", 256_000, 3072, 24_576, layers=28, heads=16, kv_heads=16, head_dim=256
)


def test_file_with_prefix_and_output_head_is_the_same_model() -> None:
    theirs = oracle()
    whole, bare = theirs.state_dict(), theirs.model.state_dict()
    whole["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    whole["model.rotary_emb.inv_freq"] = whole["rotary_emb.inv_freq"] = torch.ones(8)
    whole["spiece_model"] = torch.zeros(3, dtype=torch.uint8)
    assert "lm_head.weight" in whole and "model.norm.weight" in whole
    assert to_native(whole).keys() == to_native(bare).keys() == bare.keys()
    assert torch.equal(load_decoder(whole)(TOKENS), load_decoder(bare)(TOKENS))


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (GEMMA_2B, 2_506_172_416),
        (GEMMA_7B, 8_537_680_896),
        (LLAMA_2_7B, 6_607_343_616),  # 6,738,415,616 with the output head
        (LLAMA_2_13B, 12_852_024_320),
    ],
)
def test_released_sizes_are_read_from_the_weights(config: DecoderConfig, parameters: int) -> None:
    weights = Decoder(config, device="meta").state_dict()
    assert decoder_config(weights) == config
    assert sum(weight.numel() for weight in weights.values()) == parameters


def test_small_file_has_one_key_head_unless_told() -> None:
    weights = Decoder(
        DecoderConfig("gemma", 61, 32, 48, layers=1, heads=4, kv_heads=2, head_dim=16)
    ).state_dict()
    assert decoder_config(weights, {"head_dim": 16}).kv_heads == 2
    assert decoder_config(weights).head_dim == 32


def test_head_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="64 rows.*16.*head size 24"):
        decoder_config(tiny_file(), {"head_dim": 24})


@pytest.mark.parametrize(
    "key",
    [
        "embed_tokens.weight",
        "layers.0.self_attn.k_proj.weight",
        "layers.2.mlp.up_proj.weight",
        "layers.3.post_attention_layernorm.weight",
        "norm.weight",
    ],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_missing_key_is_named(key: str, prefix: str) -> None:
    weights = tiny_file()
    del weights[key]
    weights = {prefix + name: weight for name, weight in weights.items()}
    with pytest.raises(ValueError, match=f'^gemma.safetensors is incomplete: .*"{key}"'):
        load_decoder(weights, source="gemma.safetensors")


def test_missing_layer_is_named() -> None:
    weights = {key: w for key, w in tiny_file().items() if not key.startswith("layers.1.")}
    with pytest.raises(ValueError, match=r'9 of 38 weights are missing \("layers.1.input_layer'):
        to_native(weights)


def test_unknown_key_is_named() -> None:
    weights = tiny_file() | {"layers.0.mlp.router.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match='1 weight .*"layers.0.mlp.router.weight"'):
        to_native(weights)


def test_scale_beside_a_quantized_weight_is_kept() -> None:
    weights = tiny_file() | {"model.layers.0.mlp.up_proj.weight_scale": torch.ones(1)}
    assert "layers.0.mlp.up_proj.weight_scale" in to_native(weights)


def test_quantized_head_that_repeats_the_embedding_is_left_out() -> None:
    head = {"lm_head.weight": torch.zeros(61, 32), "lm_head.weight_scale": torch.ones(1)}
    assert to_native(tiny_file() | head).keys() == tiny_file().keys()


def test_two_values_for_one_weight_are_refused() -> None:
    weights = {"model.norm.weight": torch.ones(32)} | tiny_file()
    with pytest.raises(ValueError, match='^two.pt has two different values for "norm.weight"'):
        to_native(weights, source="two.pt")


def test_quantized_weights_are_not_run_on_plain_layers() -> None:
    scale = {"layers.0.mlp.up_proj.weight_scale": torch.ones(1)}
    with pytest.raises(ValueError, match="^fp8.safetensors is quantized"):
        load_decoder(tiny_file() | scale, source="fp8.safetensors")
    half = {key: weight.to(torch.float8_e4m3fn) for key, weight in tiny_file().items()}
    with pytest.raises(ValueError, match="float8_e4m3fn.*pass the dtype"):
        load_decoder(half)


@pytest.mark.parametrize("width", [2048, 3200])
def test_relative_of_llama_must_state_its_head_size(width: int) -> None:
    config = dataclasses.replace(LLAMA_2_7B, hidden_size=width, heads=width // 64, kv_heads=2)
    config = dataclasses.replace(config, head_dim=64, intermediate_size=64, layers=1)
    weights = Decoder(config, device="meta").state_dict()
    with pytest.raises(ValueError, match=f"tiny.pt is a relative of LLaMA-2 with {width} features"):
        decoder_config(weights, source="tiny.pt")
    assert decoder_config(weights, {"num_attention_heads": width // 64}) == config


def test_output_head_of_llama_is_read_and_that_of_gemma_is_its_embedding() -> None:
    for family in FAMILIES:
        config_json, theirs = CONFIG_JSON | {"model_type": family}, oracle(family=family)
        model = load_decoder(theirs.state_dict(), config_json)
        assert model.config.has_output_head == (family == "llama")
        state = model(TOKENS, ALL, hidden_state=-1)
        assert_close(model.logits(state), theirs(TOKENS, attention_mask=ALL).logits)


def test_llama_that_ties_its_head_scores_by_the_embedding() -> None:
    theirs = oracle(family="llama")
    theirs.lm_head.weight = theirs.model.embed_tokens.weight
    weights = {k: v for k, v in theirs.state_dict().items() if not k.startswith("lm_head")}
    config_json = CONFIG_JSON | {"model_type": "llama"}
    state = torch.ones(1, CONFIG_JSON["hidden_size"])
    with pytest.raises(ValueError, match="was saved without the output head"):
        load_decoder(weights, config_json).logits(state)
    model = load_decoder(weights, config_json | {"tie_word_embeddings": True})
    assert not model.config.has_output_head
    state = model(TOKENS, ALL, hidden_state=-1)
    assert_close(model.logits(state), theirs(TOKENS, attention_mask=ALL).logits)


def test_rotation_base_and_norm_are_those_in_config_json() -> None:
    newer = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "rms_norm_eps": 1e-4}
    for config_json in ({"rope_theta": 5e5, "rms_norm_eps": 1e-4}, newer):
        found = decoder_config(tiny_file(), config_json)
        assert (found.rope_theta, found.norm_eps) == (5e5, 1e-4)
