"""Small decoders for the tests: ours, transformers' as the oracle, and files of both."""

import torch
import transformers

from lumina_next.lumina.text_encoders.config import DecoderConfig
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.tests.support.random_weights import randomize
from lumina_next.tests.support.token_rows import TOKENS

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
CONFIG_JSON = {
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
    sizes = {key: value for key, value in CONFIG_JSON.items() if key != "model_type"}
    config = CONFIGS[family](num_key_value_heads=kv_heads, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(config)
    return randomize(model, generator=torch.Generator().manual_seed(seed))


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
