"""Which text model a file holds: one table of patterns and names, and what config.json says."""

import re
from collections.abc import Mapping

from torch import Tensor

from .config import FAMILIES

ConfigJson = Mapping[str, object]


def explain_unknown(
    state_dict: Mapping[str, Tensor],
    config_json: ConfigJson | None,
    source: str,
    known: str = "Gemma-1, LLaMA-2, T5",
) -> str:
    """What a file holds that is none of the known models, and what to choose in its place."""
    return (
        f"{source} is none of the text encoders that are known by their weights ({known}): it "
        f"looks like {describe(state_dict, config_json)}. Lumina-Next was trained with "
        "google/gemma-2b (the first Gemma, 2 billion parameters); choose that. For a model trained "
        "with another language model, choose that one's whole Hugging Face folder, config.json "
        "included."
    )


def family_of(
    state_dict: Mapping[str, Tensor], config_json: ConfigJson | None = None
) -> str | None:
    """ "gemma", "llama" or "t5" for what this pack reads by itself; None for any other model."""
    config_json = config_json or {}
    keys = {key.removeprefix("model.") for key in state_dict}
    if _other_model(keys) == T5:
        return "t5" if _is_plain_t5(config_json) else None
    if _other_model(keys) or not any(map(re.compile(_DECODER).match, keys)):
        return None
    if "model_type" in config_json:
        return config_json["model_type"] if _is_plain(config_json) else None
    size = _vocabulary(state_dict)
    if size is None or size in _VOCABULARIES["gemma"]:
        return "gemma"
    return "llama" if size in _VOCABULARIES["llama"] else None


def _is_plain(config_json: ConfigJson) -> bool:
    """Whether a config.json describes a model of `FAMILIES` without later additions."""
    scaling = config_json.get("rope_scaling") or config_json.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    biases = config_json.get("attention_bias") or config_json.get("mlp_bias")
    if config_json["model_type"] == "llama" and config_json.get("hidden_act", "silu") != "silu":
        return False
    return config_json["model_type"] in FAMILIES and kind == "default" and not biases


def _is_plain_t5(config_json: ConfigJson) -> bool:
    """Whether a config.json, if there is one, describes a T5 whose activation fits its gate."""
    return (
        config_json.get("model_type", "t5") == "t5"
        and config_json.get("feed_forward_proj", "relu") in ("relu", "gated-gelu")
        and config_json.get("relative_attention_num_buckets", 32) == 32
        and config_json.get("relative_attention_max_distance", 128) == 128
        and config_json.get("layer_norm_epsilon", 1e-6) == 1e-6
    )


def describe(state_dict: Mapping[str, Tensor], config_json: ConfigJson | None = None) -> str:
    """Which text model a file holds, in words for an error text."""
    keys = {key.removeprefix("model.") for key in state_dict}
    family = family_of(state_dict, config_json)
    if family in FAMILIES:
        return FAMILIES[family].name
    other = _other_model(keys)
    if other and (other != T5 or family == "t5"):
        return other
    if config_json and "model_type" in config_json:
        return f'a model of the type "{config_json["model_type"]}"'
    if not any(map(re.compile(_DECODER).match, keys)):
        return f'something else (its first key is "{min(keys)}")' if keys else "an empty file"
    size = _vocabulary(state_dict)
    name = "LLaMA-3" if size == 128_256 else "a relative of LLaMA"
    return f"{name} (a vocabulary of {size:,} tokens)"


def _vocabulary(state_dict: Mapping[str, Tensor]) -> int | None:
    names = ("embed_tokens.weight", "model.embed_tokens.weight")
    found = [len(state_dict[name]) for name in names if name in state_dict]
    return found[0] if found else None


def _other_model(keys: set[str]) -> str | None:
    for pattern, name in OTHER_MODELS.items():
        if any(re.search(pattern, key) for key in keys):
            return name
    return None


_DECODER = r"embed_tokens\.|layers\.\d+\.|norm\."
# The tensors carry the same names, only the vocabulary tells: LLaMA-2's is 32,000 and fine-tunes
# add a few; Gemma's is 256,000, and a smaller one than LLaMA's is a Gemma that was made small.
_VOCABULARIES = {"gemma": {*range(32_000), 256_000}, "llama": range(32_000, 32_065)}
T5 = "T5"

# Tried in this order: Gemma-3 has Gemma-2's layers too.
OTHER_MODELS = {
    r"(^|\.)(x_embedder|patch_embedder)\.": "a diffusion model, not its text encoder",
    r"^(vision_tower|language_model|multi_modal_projector)\.": "a model for pictures and text",
    r"self_attn\.q_norm\.weight$": "Gemma-3 or Qwen3 (it normalizes queries)",
    r"\.pre_feedforward_layernorm\.": "Gemma-2 (it normalizes before the feed-forward)",
    r"self_attn\.q_proj\.bias$": "Qwen2 (its projections have a bias)",
    r"^tok_embeddings\.": "LLaMA in Meta's own format; its Hugging Face folder ends in -hf",
    r"^encoder\.block\.1\..*relative_attention_bias": "UMT5 (each layer has its own positions)",
    r"^encoder\.block\.": T5,
    r"text_model\.": "CLIP",
}
