"""Which text model a file holds."""

import pytest
import torch
import transformers

from lumina_next.lumina.text_encoders.families import describe, family_of
from lumina_next.lumina.text_encoders.weights import to_native
from lumina_next.tests.support.decoders import tiny_file


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
    assert family_of(weights, {"model_type": ["llama"]}) is None
    scaled = {"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}
    assert family_of(weights, scaled) is None
    assert family_of(weights, {"model_type": "llama", "attention_bias": True}) is None


@pytest.mark.parametrize("vocabulary", [32_000, 32_001, 32_016])
def test_a_file_with_the_vocabulary_of_llama_2_is_one(vocabulary: int) -> None:
    weights = tiny_file() | {"embed_tokens.weight": torch.zeros(vocabulary, 1, device="meta")}
    assert family_of(weights) == "llama" and describe(weights) == "LLaMA-2"


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


def test_gemma_is_described_with_and_without_prefix() -> None:
    weights = tiny_file()
    assert describe(weights) == "Gemma-1"
    assert describe({"model." + key: weight for key, weight in weights.items()}) == "Gemma-1"
