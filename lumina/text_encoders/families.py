"""Recognizes a text model by its weights: one table of key patterns, model names and readers.

Decoders with the same key names are told apart by config.json, or by the size of the vocabulary.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..checkpoints.config_json import ConfigJson
from ..checkpoints.wording import quoted
from .config import FAMILIES

DECODER, T5 = "decoder", "t5"


@dataclass(frozen=True)
class KnownModel:
    """A row of the table. reader: what builds it in this pack, DECODER or T5; None for nothing."""

    pattern: str
    name: str
    reader: str | None = None


# Tried in this order: Gemma-3 has Gemma-2's layers too.
TABLE = (
    KnownModel(r"(^|\.)(x_embedder|patch_embedder)\.", "a diffusion model, not its text encoder"),
    KnownModel(
        r"^(vision_tower|language_model|multi_modal_projector)\.", "a model for pictures and text"
    ),
    KnownModel(r"self_attn\.q_norm\.weight$", "Gemma-3 or Qwen3 (it normalizes queries)"),
    KnownModel(r"\.pre_feedforward_layernorm\.", "Gemma-2 (it normalizes before the feed-forward)"),
    KnownModel(r"self_attn\.q_proj\.bias$", "Qwen2 (its projections have a bias)"),
    KnownModel(
        r"^tok_embeddings\.", "LLaMA in Meta's own format; its Hugging Face folder ends in -hf"
    ),
    KnownModel(
        r"^encoder\.block\.1\..*relative_attention_bias", "UMT5 (each layer has its own positions)"
    ),
    KnownModel(r"^encoder\.block\.", "T5", T5),
    KnownModel(r"text_model\.", "CLIP"),
    KnownModel(r"^(embed_tokens|layers\.\d+|norm)\.", "a relative of LLaMA", DECODER),
)
# LLaMA-2's vocabulary has 32,000 tokens, and fine-tunes add a few. Gemma's has 256,000; a smaller
# one than LLaMA's is that of a small Gemma, such as the demo's.
VOCABULARIES = {"gemma": {*range(32_000), 256_000}, "llama": range(32_000, 32_065)}
LLAMA_3_VOCABULARY = 128_256


def family_of(
    state_dict: Mapping[str, Tensor], config_json: ConfigJson | None = None
) -> str | None:
    """ "gemma", "llama" or "t5" for the models that this pack builds; None for any other."""
    config_json, model = config_json or {}, _model_of(state_dict)
    if model is None or model.reader is None:
        return None
    if model.reader == T5:
        return T5 if _is_plain_t5(config_json) else None
    if "model_type" in config_json:
        return str(config_json["model_type"]) if _is_plain_decoder(config_json) else None
    size = _vocabulary(state_dict)
    if size is None:
        return "gemma"
    return next((name for name, sizes in VOCABULARIES.items() if size in sizes), None)


def _model_of(keys: Iterable[str]) -> KnownModel | None:
    bare = [key.removeprefix("model.") for key in keys]
    for model in TABLE:
        if any(map(re.compile(model.pattern).search, bare)):
            return model
    return None


def _vocabulary(state_dict: Mapping[str, Tensor]) -> int | None:
    names = ("embed_tokens.weight", "model.embed_tokens.weight")
    return next((len(state_dict[name]) for name in names if name in state_dict), None)


def _is_plain_decoder(config_json: ConfigJson) -> bool:
    """Whether a config.json describes a model of `FAMILIES` without later additions."""
    scaling = config_json.get("rope_scaling") or config_json.get("rope_parameters") or {}
    if not isinstance(scaling, Mapping):
        return False
    model_type = str(config_json["model_type"])
    rope_type = scaling.get("rope_type", scaling.get("type", "default"))
    biases = config_json.get("attention_bias") or config_json.get("mlp_bias")
    if model_type == "llama" and config_json.get("hidden_act", "silu") != "silu":
        return False
    return model_type in FAMILIES and rope_type == "default" and not biases


def _is_plain_t5(config_json: ConfigJson) -> bool:
    """Whether a config.json, if any, describes a T5 as published, in what shapes do not tell."""
    return (
        config_json.get("model_type", "t5") == "t5"
        and config_json.get("feed_forward_proj", "relu") in ("relu", "gated-gelu")
        and config_json.get("relative_attention_num_buckets", 32) == 32
        and config_json.get("relative_attention_max_distance", 128) == 128
        and config_json.get("layer_norm_epsilon", 1e-6) == 1e-6
    )


def describe(state_dict: Mapping[str, Tensor], config_json: ConfigJson | None = None) -> str:
    """The name of the text model in a file, for an error text."""
    family, model = family_of(state_dict, config_json), _model_of(state_dict)
    if family in FAMILIES:
        return FAMILIES[family].name
    if model and (model.reader is None or family == T5):
        return model.name
    if config_json and "model_type" in config_json:
        return f"a model of the type {quoted(config_json['model_type'])}"
    if model is None or model.reader == T5:
        first = min((key.removeprefix("model.") for key in state_dict), default=None)
        return f"something else (its first key is {quoted(first)})" if first else "an empty file"
    size = _vocabulary(state_dict)
    name = "LLaMA-3" if size == LLAMA_3_VOCABULARY else model.name
    return f"{name} (a vocabulary of {size:,} tokens)"


def explain_unknown(
    state_dict: Mapping[str, Tensor],
    config_json: ConfigJson | None,
    source: str,
    known: str = "Gemma-1, LLaMA-2, T5",
) -> str:
    """The error text for any other model: what it looks like, and what to choose instead."""
    return (
        f"{source} is none of the text encoders that are known by their weights ({known}): it "
        f"looks like {describe(state_dict, config_json)}. Lumina-Next was trained with "
        "google/gemma-2b (the first Gemma, 2 billion parameters); choose that. For a model trained "
        "with another language model, choose the whole Hugging Face folder of that language model, "
        "config.json included."
    )
