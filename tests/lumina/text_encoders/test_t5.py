"""T5's names and sizes, read from what transformers writes."""

import pytest
import torch
import transformers

from lumina_next.lumina.text_encoders.t5 import T5Config, t5_config, t5_to_native

SMALL = {"d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 3, "num_heads": 4, "vocab_size": 61}


def encoder(**sizes: object) -> dict[str, torch.Tensor]:
    """An encoder's tensors, without data."""
    with torch.device("meta"):
        model = transformers.T5EncoderModel(transformers.T5Config(**SMALL | sizes))
    return model.state_dict()


def whole() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        config = transformers.T5Config(**SMALL, tie_word_embeddings=False)
        return transformers.T5ForConditionalGeneration(config).state_dict()


# Of version 1.1: d_model, d_ff, d_kv, layers, heads, and the encoder's parameters.
RELEASED = {
    "small": (512, 1024, 64, 8, 6, 35_332_800),
    "base": (768, 2048, 64, 12, 12, 109_628_544),
    "large": (1024, 2816, 64, 24, 16, 341_231_104),
    "xl": (2048, 5120, 64, 24, 32, 1_223_527_424),
    "xxl": (4096, 10_240, 64, 24, 64, 4_762_310_656),
}


@pytest.mark.parametrize("size", RELEASED)
def test_released_sizes_are_read_from_the_weights(size: str) -> None:
    d_model, d_ff, d_kv, layers, heads, parameters = RELEASED[size]
    sizes = {"d_model": d_model, "d_ff": d_ff, "d_kv": d_kv, "num_layers": layers}
    sizes |= {"num_heads": heads, "vocab_size": 32_128}
    native = t5_to_native(encoder(**sizes, feed_forward_proj="gated-gelu"))
    assert t5_config(native) == T5Config(**sizes, is_gated=True)
    assert sum(tensor.numel() for tensor in native.values()) == parameters


def test_first_version_is_told_by_its_plain_feed_forward() -> None:
    assert t5_config(t5_to_native(encoder())) == T5Config(**SMALL, is_gated=False)


@pytest.mark.parametrize("absent", ["shared.weight", "encoder.embed_tokens.weight", None])
def test_decoder_is_left_out_and_the_embedding_has_one_name(absent: str | None) -> None:
    weights = whole() | {"spiece_model": torch.zeros(3, dtype=torch.uint8)}
    weights.pop(absent, None)
    native = t5_to_native(weights)
    expected = encoder().keys() - {"encoder.embed_tokens.weight"}
    assert native.keys() == expected


@pytest.mark.parametrize(
    "key",
    [
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block.1.layer.0.SelfAttention.o.weight",
        "encoder.block.2.layer.1.DenseReluDense.wi_1.weight",
        "encoder.block.1.layer.1.layer_norm.weight",
        "encoder.final_layer_norm.weight",
    ],
)
def test_missing_key_is_named(key: str) -> None:
    weights = encoder(feed_forward_proj="gated-gelu")
    del weights[key]
    with pytest.raises(ValueError, match=f'^t5.pt is incomplete: .*"{key}"'):
        t5_to_native(weights, source="t5.pt")


def test_missing_embedding_is_named() -> None:
    weights = {key: tensor for key, tensor in encoder().items() if "block" in key or "norm" in key}
    with pytest.raises(ValueError, match='incomplete: it has no "shared.weight"'):
        t5_to_native(weights)


def test_unknown_key_is_named_and_scales_are_kept() -> None:
    weights = encoder()
    scale = "encoder.block.0.layer.0.SelfAttention.q.weight_scale"
    assert scale in t5_to_native(weights | {scale: torch.ones(1)})
    with pytest.raises(ValueError, match='^t5.pt is not a plain T5.*"encoder.pooler.w"'):
        t5_to_native(weights | {"encoder.pooler.w": torch.ones(1)}, source="t5.pt")
