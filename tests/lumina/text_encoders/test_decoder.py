"""The decoder against transformers' GemmaModel and LlamaModel, and what other files are told.

The oracle gets random weights, norms included, and ours loads them through its state dict.
"""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lumina_next.lumina.model.layers import (
    Attention,
    OffsetRMSNorm,
    offset_rms_norm,
    scaled_dot_product_attention,
)
from lumina_next.lumina.text_encoders.config import FAMILIES, DecoderConfig
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.lumina.text_encoders.families import describe, family_of
from lumina_next.lumina.text_encoders.layers import LayerCache
from lumina_next.lumina.text_encoders.weights import decoder_config, load_decoder, to_native

CONFIG = DecoderConfig(
    "gemma",
    vocab_size=61,
    hidden_size=32,
    intermediate_size=48,
    layers=4,
    heads=4,
    kv_heads=1,
    head_dim=16,
)
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
TOKENS = torch.randint(3, 61, (2, 9), generator=torch.Generator().manual_seed(7))
ALL = torch.ones(2, 9, dtype=torch.long)
RIGHT_PADDED = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
LEFT_PADDED = torch.tensor([[1] * 9, [0] * 4 + [1] * 5])


STATED = {
    "model_type": "gemma",
    "vocab_size": CONFIG.vocab_size,
    "hidden_size": CONFIG.hidden_size,
    "intermediate_size": CONFIG.intermediate_size,
    "num_hidden_layers": CONFIG.layers,
    "num_attention_heads": CONFIG.heads,
    "head_dim": CONFIG.head_dim,
    "rms_norm_eps": 1e-6,
}
CONFIGS = {"gemma": transformers.GemmaConfig, "llama": transformers.LlamaConfig}


def oracle(kv_heads: int = 1, seed: int = 0, family: str = "gemma") -> transformers.PreTrainedModel:
    """A tiny transformers model with an output head whose every weight is random and matters."""
    sizes = {key: value for key, value in STATED.items() if key != "model_type"}
    config = CONFIGS[family](num_key_value_heads=kv_heads, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        fan_in = parameter.shape[1] if parameter.ndim == 2 else 4
        parameter.normal_(std=fan_in**-0.5, generator=generator)
    return model


def cast_weights(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Weights only, as loading does: `model.to` would round the rotary frequencies as well."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def oracle_states(
    model: transformers.PreTrainedModel, mask: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    return model.model(TOKENS, attention_mask=mask, output_hidden_states=True).hidden_states


def tiny_file() -> dict[str, torch.Tensor]:
    return dict(Decoder(CONFIG).state_dict())


@pytest.mark.parametrize("mask", [ALL, RIGHT_PADDED, LEFT_PADDED], ids=["all", "right", "left"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_hidden_state_is_that_of_transformers(
    family: str, kv_heads: int, mask: torch.Tensor
) -> None:
    theirs = oracle(kv_heads, family=family)
    ours = load_decoder(theirs.model.state_dict(), STATED | {"model_type": family})
    expected = oracle_states(theirs, mask)
    real = mask.bool()
    assert len(expected) == CONFIG.layers + 1
    for index in range(-len(expected), len(expected)):
        found = ours(TOKENS, mask, hidden_state=index)
        assert_close(found[real], expected[index][real], msg=lambda m, i=index: f"{i}: {m}")


def test_the_default_is_the_state_before_last() -> None:
    theirs = oracle()
    found = load_decoder(theirs.model.state_dict())(TOKENS, RIGHT_PADDED)
    real = RIGHT_PADDED.bool()
    assert_close(found[real], oracle_states(theirs, RIGHT_PADDED)[-2][real])


def test_file_with_prefix_and_output_head_is_the_same_model() -> None:
    theirs = oracle()
    whole, bare = theirs.state_dict(), theirs.model.state_dict()
    whole["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    whole["spiece_model"] = torch.zeros(3, dtype=torch.uint8)
    assert "lm_head.weight" in whole and "model.norm.weight" in whole
    assert to_native(whole).keys() == to_native(bare).keys() == bare.keys()
    assert torch.equal(load_decoder(whole)(TOKENS), load_decoder(bare)(TOKENS))


def test_norm_weight_is_an_offset_from_one() -> None:
    x = torch.tensor([[3.0, -4.0]])
    assert_close(offset_rms_norm(x, torch.zeros(2), 0.0, 1.0), x / 12.5**0.5)
    assert_close(
        offset_rms_norm(x, torch.tensor([1.0, -1.0]), 0.0, 1.0),
        torch.tensor([[6 / 12.5**0.5, 0.0]]),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_norm_rounds_once(dtype: torch.dtype, weight_dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(50, 64, generator=generator).to(dtype)
    # Small enough that 1 + weight in half precision would drop all or most of it.
    weight = (torch.randn(64, generator=generator) * 1e-3).to(weight_dtype)
    wide = x.double()
    exact = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + weight.double())
    found = offset_rms_norm(x, weight, 1e-6, 1.0)
    assert found.dtype == dtype
    half_step = torch.finfo(dtype).eps / 2
    slack = 4 * torch.finfo(torch.float32).eps  # of the float32 arithmetic itself
    assert ((found.double() - exact).abs() / exact.abs()).max() < half_step + slack


def test_bfloat16_error_is_no_larger_than_transformers() -> None:
    # Many tokens: on few, which of two equally good roundings wins is chance.
    tokens = torch.randint(3, 61, (16, 32), generator=torch.Generator().manual_seed(1))
    ours_error = theirs_error = 0.0
    for seed in range(8):
        theirs = cast_weights(oracle(seed=seed), torch.bfloat16)
        rounded = load_decoder(theirs.model.state_dict())(tokens)
        assert rounded.dtype == torch.bfloat16
        rounded_theirs = theirs.model(tokens, output_hidden_states=True).hidden_states[-2]
        cast_weights(theirs, torch.float32)
        exact = theirs.model(tokens, output_hidden_states=True).hidden_states[-2]
        ours_error += (rounded - exact).abs().mean().item()
        theirs_error += (rounded_theirs - exact).abs().mean().item()
    assert 0 < ours_error <= theirs_error


class CastingLayers:
    """Layers as a host makes them: weights stay half, each use casts them to the activations."""

    class Linear(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x, self.weight.to(x.dtype))

    class Embedding(torch.nn.Embedding):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.embedding(x, self.weight).float()


def test_half_weights_under_casting_layers_are_exact() -> None:
    theirs = cast_weights(oracle(), torch.bfloat16)
    ours = Decoder(CONFIG, ops=CastingLayers, dtype=torch.bfloat16)
    ours.load_state_dict(to_native(theirs.state_dict()))
    expected = oracle_states(cast_weights(theirs, torch.float32), LEFT_PADDED)
    real = LEFT_PADDED.bool()
    for index in (-1, -2, -3):
        found = ours(TOKENS, LEFT_PADDED, hidden_state=index)
        assert found.dtype == torch.float32
        assert_close(found[real], expected[index][real])


def test_state_before_last_never_touches_the_last_layer() -> None:
    model = Decoder(CONFIG)
    for parameter in [*model.layers[-1].parameters(), *model.norm.parameters()]:
        torch.nn.init.constant_(parameter, float("nan"))
    assert model(TOKENS, hidden_state=-2).isfinite().all()
    assert model(TOKENS, hidden_state=-1).isnan().all()


def test_several_states_come_from_one_run() -> None:
    model = load_decoder(tiny_file())
    runs = []
    model.layers[0].register_forward_hook(lambda *_: runs.append(1))
    found = model.hidden_states(model.embed(TOKENS), RIGHT_PADDED, (-1, -3, 0))
    assert len(runs) == 1
    for state, index in zip(found, (-1, -3, 0), strict=True):
        assert torch.equal(state, model(TOKENS, RIGHT_PADDED, hidden_state=index))


def test_embeds_are_scaled_inside() -> None:
    model = load_decoder(tiny_file())
    embeds = model.embed(TOKENS)
    assert torch.equal(embeds, model.embed_tokens.weight[TOKENS])
    assert torch.equal(model(embeds=embeds), model(TOKENS))
    assert_close(model(TOKENS, hidden_state=0), embeds * 32**0.5)


@settings(deadline=None, max_examples=10)
@given(left=st.integers(0, 6), right=st.integers(0, 6), garbage=st.integers(0, 60))
def test_padding_changes_no_token(left: int, right: int, garbage: int) -> None:
    model = load_decoder(oracle().model.state_dict())
    padded = F.pad(TOKENS, (left, right), value=garbage)
    mask = F.pad(ALL, (left, right))
    found = model(padded, mask)[:, left : left + TOKENS.shape[1]]
    assert_close(found, model(TOKENS), rtol=1e-4, atol=1e-5)  # angles far from 0 are coarser


@settings(deadline=None, max_examples=12)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    kv_heads=st.sampled_from([1, 2, 4]),
    cuts=st.sets(st.integers(1, 8)),
    mask=st.sampled_from([ALL, RIGHT_PADDED, LEFT_PADDED]),
)
def test_reading_in_parts_is_reading_at_once(
    family: str, kv_heads: int, cuts: set[int], mask: torch.Tensor
) -> None:
    theirs = oracle(kv_heads, family=family)
    model = load_decoder(theirs.model.state_dict(), STATED | {"model_type": family})
    embeds, cache, parts = model.embed(TOKENS), model.new_cache(), []
    for start, end in itertools.pairwise([0, *sorted(cuts), 9]):
        parts += model.hidden_states(embeds[:, start:end], mask[:, :end], (-1,), cache)
    assert {layer.tokens for layer in cache} == {9}
    real = mask.bool()
    assert_close(torch.cat(parts, dim=1)[real], model(TOKENS, mask, hidden_state=-1)[real])


def test_long_text_read_token_by_token_is_that_read_at_once() -> None:
    model = load_decoder(oracle().model.state_dict())
    tokens = torch.randint(3, 61, (1, 70), generator=torch.Generator().manual_seed(2))
    embeds, cache = model.embed(tokens), model.new_cache()
    parts = [model.hidden_states(embeds[:, [i]], None, (-1,), cache)[0] for i in range(70)]
    expected = model(tokens, hidden_state=-1)
    assert_close(torch.cat(parts, dim=1), expected)


def test_room_is_made_seldom_and_keeps_what_was_read() -> None:
    cache, read = LayerCache(), torch.randn(2, 1, 2, 200, 4)
    rooms = []
    for i in range(200):
        keys, values = cache.extend(*read[:, :, :, i : i + 1])
        rooms += [cache.stored] if not rooms or cache.stored is not rooms[-1] else []
        assert torch.equal(keys, read[0, :, :, : i + 1])
        assert torch.equal(values, read[1, :, :, : i + 1])
    assert len(rooms) <= 8  # each twice as large as the one before


def test_every_layer_remembers_whatever_state_was_asked_for() -> None:
    model = load_decoder(oracle().model.state_dict())
    embeds, cache = model.embed(TOKENS), model.new_cache()
    (early,) = model.hidden_states(embeds[:, :4], None, (1,), cache)
    assert_close(early, model(TOKENS, hidden_state=1)[:, :4])
    (late,) = model.hidden_states(embeds[:, 4:], None, (-1,), cache)
    assert_close(late, model(TOKENS, hidden_state=-1)[:, 4:])


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_the_next_token_are_those_of_transformers(family: str) -> None:
    theirs = oracle(family=family)
    model = Decoder(dataclasses.replace(CONFIG, family=family, has_output_head=family == "llama"))
    model.load_state_dict(to_native(theirs.state_dict(), STATED | {"model_type": family}))
    found = model.logits(model(TOKENS, hidden_state=-1))
    assert_close(found, theirs(TOKENS).logits)


def plain_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention by the formula; unlike torch's, it is NaN where every place holds -inf."""
    return ((q @ k.mT * scale) + mask).softmax(-1) @ v


@pytest.mark.parametrize("attention", [plain_attention, scaled_dot_product_attention])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_of_padding_stay_finite(dtype: torch.dtype, attention: Attention) -> None:
    model = Decoder(CONFIG, attention=attention, dtype=dtype)
    nothing = torch.zeros(2, 9)
    assert model(TOKENS, nothing, hidden_state=-1).isfinite().all()
    assert model(TOKENS, LEFT_PADDED, hidden_state=-1).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32, torch.float16])
def test_mask_may_be_of_any_type(dtype: torch.dtype) -> None:
    model = load_decoder(tiny_file())
    assert torch.equal(model(TOKENS, RIGHT_PADDED.to(dtype)), model(TOKENS, RIGHT_PADDED))


def test_attention_and_norm_may_be_handed_in() -> None:
    seen = []

    def attention(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor, scale: float
    ) -> torch.Tensor:
        seen.append((q.shape, k.shape, v.shape, mask.shape, mask.dtype, scale))
        return scaled_dot_product_attention(q, k, v, mask=mask, scale=scale)

    class HostNorm(OffsetRMSNorm):
        pass

    model = Decoder(CONFIG, attention=attention, norm=HostNorm)
    plain = load_decoder(model.state_dict())
    assert torch.equal(model(TOKENS, RIGHT_PADDED), plain(TOKENS, RIGHT_PADDED))
    shapes = ((2, 4, 9, 16), (2, 1, 9, 16), (2, 1, 9, 16), (2, 1, 9, 9))
    assert seen == [(*shapes, torch.float32, 0.25)] * 3
    norms = [name for name, module in model.named_modules() if isinstance(module, HostNorm)]
    assert len(norms) == 2 * CONFIG.layers + 1


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


def relative(config: transformers.PretrainedConfig) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config).state_dict()


TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
RELATIVES = {
    "Gemma-2": lambda: relative(transformers.Gemma2Config(vocab_size=256_000, **TINY)),
    "Gemma-3": lambda: relative(transformers.Gemma3TextConfig(vocab_size=262_208, **TINY)),
    "LLaMA-3": lambda: relative(transformers.LlamaConfig(vocab_size=128_256, **TINY)),
    "a relative of LLaMA": lambda: relative(transformers.LlamaConfig(vocab_size=50_000, **TINY)),
    "LLaMA in Meta's own format": lambda: {
        "tok_embeddings.weight": torch.zeros(1),
        "layers.0.attention.wq.weight": torch.zeros(1),
    },
    "Qwen2": lambda: relative(transformers.Qwen2Config(vocab_size=151_936, **TINY)),
    "T5": lambda: {"encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(1)},
    "UMT5": lambda: {
        f"encoder.block.{layer}.layer.0.SelfAttention.relative_attention_bias.weight": torch.zeros(
            1
        )
        for layer in (0, 1)
    },
    "CLIP": lambda: {"text_model.embeddings.token_embedding.weight": torch.zeros(1)},
    "pictures and text": lambda: {"language_model.model.norm.weight": torch.zeros(1)},
    "an empty file": dict,
    "a diffusion model": lambda: {
        "x_embedder.weight": torch.zeros(1),
        "layers.0.attention.wq.weight": torch.zeros(1),
    },
    r'something else \(its first key is "blocks.0.bias"\)': lambda: {
        "blocks.0.weight": torch.zeros(1),
        "blocks.0.bias": torch.zeros(1),
    },
}


@pytest.mark.parametrize("name", RELATIVES)
def test_other_models_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"te.pt is none of the text encoders.*{name}.*gemma-2b"):
        to_native(RELATIVES[name](), source="te.pt")


def test_config_decides_between_two_files_of_the_same_names() -> None:
    weights = tiny_file()
    assert family_of(weights) == "gemma"
    assert family_of(weights, {"model_type": "llama"}) == "llama"
    assert family_of(weights, {"model_type": "mistral"}) is None
    scaled = {"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}
    assert family_of(weights, scaled) is None
    assert family_of(weights, {"model_type": "llama", "attention_bias": True}) is None


@pytest.mark.parametrize("vocabulary", [32_000, 32_001, 32_016])
def test_a_file_with_the_vocabulary_of_llama_2_is_one(vocabulary: int) -> None:
    weights = tiny_file() | {"embed_tokens.weight": torch.zeros(vocabulary, 1, device="meta")}
    assert family_of(weights) == "llama" and describe(weights) == "LLaMA-2"


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
        stated, theirs = STATED | {"model_type": family}, oracle(family=family)
        model = load_decoder(theirs.state_dict(), stated)
        assert model.config.has_output_head == (family == "llama")
        state = model(TOKENS, ALL, hidden_state=-1)
        assert_close(model.logits(state), theirs(TOKENS, attention_mask=ALL).logits)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mt5"},
        {"model_type": "umt5"},
        {"feed_forward_proj": "gated-silu"},
        {"relative_attention_num_buckets": 64},
        {"relative_attention_max_distance": 256},
        {"layer_norm_epsilon": 1e-5},
    ],
)
def test_config_tells_t5_from_its_relatives(change: dict[str, object]) -> None:
    weights = {"encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(1)}
    plain = transformers.T5Config(feed_forward_proj="gated-gelu").to_dict()
    assert family_of(weights) == family_of(weights, plain) == "t5"
    assert describe(weights, plain) == "T5"
    assert family_of(weights, plain | change) is None
    assert change.get("model_type", "t5") in describe(weights, plain | change)


def test_rotation_base_and_norm_are_those_stated() -> None:
    newer = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "rms_norm_eps": 1e-4}
    for stated in ({"rope_theta": 5e5, "rms_norm_eps": 1e-4}, newer):
        found = decoder_config(tiny_file(), stated)
        assert (found.rope_theta, found.norm_eps) == (5e5, 1e-4)


def test_gemma_is_described_with_and_without_prefix() -> None:
    weights = tiny_file()
    assert describe(weights) == "Gemma-1"
    assert describe({"model." + key: weight for key, weight in weights.items()}) == "Gemma-1"


@pytest.mark.parametrize("index", [5, -6])
def test_hidden_state_that_does_not_exist_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=f"hidden state {index} does not exist.*4 layers has 5"):
        Decoder(CONFIG)(TOKENS, hidden_state=index)


def test_exactly_one_input_is_needed() -> None:
    model = Decoder(CONFIG)
    with pytest.raises(ValueError, match="exactly one"):
        model()
    with pytest.raises(ValueError, match="exactly one"):
        model(TOKENS, embeds=model.embed(TOKENS))


@pytest.mark.parametrize(
    "sizes",
    [{"heads": 4, "kv_heads": 3, "head_dim": 16}, {"heads": 4, "kv_heads": 1, "head_dim": 15}],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="text encoder"):
        DecoderConfig("gemma", 61, 32, 48, layers=1, **sizes)
