"""Text encoders from a checkpoint's tensors: which model; of decoders also the names and sizes.

Names are the Hugging Face checkpoint's without the `model.` prefix. Tensors are passed on, never
copied or cast. `stated` is what the model's config.json says, where there is one; shapes alone tell
most, but not everything, and not a Gemma of a small vocabulary from a LLaMA. T5's names and sizes
are in `t5_checkpoints`.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .decoder import FAMILIES, Decoder, DecoderConfig

RELEASED_HEAD_DIM = {"gemma": 256, "llama": 128}
RELEASED_NORM_EPS = {"gemma": 1e-6, "llama": 1e-5}
# Of LLaMA-2 7B, 13B and 70B. Relatives of the same vocabulary have other widths and head sizes.
LLAMA_WIDTHS = (4096, 5120, 8192)
OUTPUT_HEAD = "lm_head.weight"
Stated = Mapping[str, object]


def load_decoder(
    state_dict: Mapping[str, Tensor],
    stated: Stated | None = None,
    *,
    dtype: torch.dtype | None = None,
    source: str = "The text encoder file",
) -> Decoder:
    """A decoder on torch's layers holding the file's own tensors, ready to run.

    dtype None keeps the file's. Raises ValueError as `to_native` does, or RuntimeError naming a
    tensor of the wrong shape.
    """
    native = to_native(state_dict, stated, source=source)
    # Built without memory: initialising two billion weights only to replace them takes a minute.
    model = Decoder(decoder_config(native, stated), device="meta")
    model.load_state_dict(native, assign=True)
    return model.to(dtype=dtype).eval().requires_grad_(False)


def decoder_config(
    state_dict: Mapping[str, Tensor],
    stated: Stated | None = None,
    *,
    source: str = "The text encoder file",
) -> DecoderConfig:
    """Family and sizes of a decoder, from its tensors' shapes and what its config.json states.

    head_dim is not in the shapes. Unless stated it is that of the released models: 128 for LLaMA,
    256 for Gemma where that divides the rows of k_proj; otherwise those rows are the one key head.
    Raises ValueError as `to_native` does, if the projections are no multiple of head_dim, or if
    nothing tells it.
    """
    stated = stated or {}
    native = to_native(state_dict, stated, source=source)
    family = family_of(native, stated)
    vocab_size, hidden_size = native["embed_tokens.weight"].shape
    q_rows = len(native["layers.0.self_attn.q_proj.weight"])
    k_rows = len(native["layers.0.self_attn.k_proj.weight"])
    head_dim = _head_dim(stated, q_rows)
    if head_dim is None and family == "llama" and hidden_size not in LLAMA_WIDTHS:
        raise ValueError(
            f"{source} is a relative of LLaMA-2 with {hidden_size} features per token, and how "
            "large its attention heads are is not in the weights. Choose its whole Hugging Face "
            "folder, config.json included."
        )
    if head_dim is None:
        released = RELEASED_HEAD_DIM[family]
        head_dim = released if k_rows % released == 0 else k_rows
    if q_rows % head_dim or k_rows % head_dim:
        raise ValueError(
            f"The q_proj of {source} has {q_rows} rows and its k_proj {k_rows}: both must be "
            f"multiples of the head size {head_dim}. Its config.json belongs to another model."
        )
    return DecoderConfig(
        family=family,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=len(native["layers.0.mlp.gate_proj.weight"]),
        layers=layer_count(native, _LAYER),
        heads=q_rows // head_dim,
        kv_heads=k_rows // head_dim,
        head_dim=head_dim,
        norm_eps=stated.get("rms_norm_eps", RELEASED_NORM_EPS[family]),
        rope_theta=_rope_theta(stated),
        has_output_head=OUTPUT_HEAD in native,
    )


def _head_dim(stated: Stated, q_rows: int) -> int | None:
    heads = stated.get("num_attention_heads")
    return stated.get("head_dim") or (q_rows // heads if heads else None)


def _rope_theta(stated: Stated) -> float:
    """Under its own name in older files, within a group of its kind in those of transformers 5."""
    return stated.get("rope_theta") or (stated.get("rope_parameters") or {}).get("rope_theta", 1e4)


def to_native(
    state_dict: Mapping[str, Tensor],
    stated: Stated | None = None,
    *,
    source: str = "The text encoder file",
) -> dict[str, Tensor]:
    """The decoder's tensors under this module's names; they are not copied.

    Takes files with and without the `model.` prefix. Leaves out an output head that is the
    embedding again (Gemma's), stored rotary tables and whatever has no dot in its name (a tokenizer
    kept with the weights). Raises ValueError that names `source` and the missing or unknown key.
    """
    native = _without_prefix(state_dict)
    family = family_of(native, stated)
    if family not in FAMILIES:
        raise ValueError(explain_unknown(native, stated, source, known="Gemma-1, LLaMA-2"))
    if family == "gemma":
        native.pop(OUTPUT_HEAD, None)
    modules = _module_names(layer_count(native, _LAYER))
    check_names(native, modules, {"lm_head"}, f"a plain {FAMILIES[family].name}", source)
    return native


def check_names(
    native: Mapping[str, Tensor], modules: list[str], optional: set[str], kind: str, source: str
) -> None:
    """Raise ValueError naming `source` for a module without its weight, or a key of no module."""
    missing = [name for name in modules if f"{name}.weight" not in native]
    if missing:
        raise ValueError(
            f'{source} is incomplete: "{missing[0]}.weight" is missing, with {len(missing) - 1} '
            f"more of {len(modules)}. If the model comes in several files, all of them are needed; "
            "if it is one file, download it again."
        )
    known = {*modules, *optional}
    # Only the module is compared: quantised files keep scales beside a weight.
    unknown = [key for key in native if key.rpartition(".")[0] not in known]
    if unknown:
        raise ValueError(f'{source} is not {kind}: unknown key "{unknown[0]}".')


def explain_unknown(
    state_dict: Mapping[str, Tensor],
    stated: Stated | None,
    source: str,
    known: str = "Gemma-1, LLaMA-2, T5",
) -> str:
    """What a file holds that is none of the known models, and what to choose in its place."""
    return (
        f"{source} is none of the text encoders that are known by their weights ({known}): it "
        f"looks like {describe(state_dict, stated)}. Lumina-Next was trained with google/gemma-2b "
        "(the first Gemma, 2 billion parameters); choose that. For a model trained with another "
        "language model, choose that one's whole Hugging Face folder, config.json included."
    )


def _without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    native = {key.removeprefix("model."): tensor for key, tensor in state_dict.items()}
    return {key: tensor for key, tensor in native.items() if not _is_left_out(key)}


def family_of(state_dict: Mapping[str, Tensor], stated: Stated | None = None) -> str | None:
    """ "gemma", "llama" or "t5" for what this pack reads by itself; None for any other model."""
    stated = stated or {}
    keys = {key.removeprefix("model.") for key in state_dict}
    if _other_model(keys) == T5:
        return "t5" if _is_plain_t5(stated) else None
    if _other_model(keys) or not any(map(re.compile(_DECODER).match, keys)):
        return None
    if "model_type" in stated:
        return stated["model_type"] if _is_plain(stated) else None
    size = _vocabulary(state_dict)
    if size is None or size in _VOCABULARIES["gemma"]:
        return "gemma"
    return "llama" if size in _VOCABULARIES["llama"] else None


def _is_plain(stated: Stated) -> bool:
    """Whether a config.json describes a model of `FAMILIES` without later additions."""
    scaling = stated.get("rope_scaling") or stated.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    biases = stated.get("attention_bias") or stated.get("mlp_bias")
    if stated["model_type"] == "llama" and stated.get("hidden_act", "silu") != "silu":
        return False
    return stated["model_type"] in FAMILIES and kind == "default" and not biases


def _is_plain_t5(stated: Stated) -> bool:
    """Whether a config.json, if there is one, describes a T5 whose activation fits its gate."""
    return (
        stated.get("model_type", "t5") == "t5"
        and stated.get("feed_forward_proj", "relu") in ("relu", "gated-gelu")
        and stated.get("relative_attention_num_buckets", 32) == 32
        and stated.get("relative_attention_max_distance", 128) == 128
        and stated.get("layer_norm_epsilon", 1e-6) == 1e-6
    )


def describe(state_dict: Mapping[str, Tensor], stated: Stated | None = None) -> str:
    """Which text model a file holds, in words for an error text."""
    keys = {key.removeprefix("model.") for key in state_dict}
    family = family_of(state_dict, stated)
    if family in FAMILIES:
        return FAMILIES[family].name
    other = _other_model(keys)
    if other and (other != T5 or family == "t5"):
        return other
    if stated and "model_type" in stated:
        return f'a model of the type "{stated["model_type"]}"'
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


_LAYER = r"layers\.(\d+)\."
_DECODER = r"embed_tokens\.|layers\.\d+\.|norm\."
# The tensors carry the same names, only the vocabulary tells: LLaMA-2's is 32,000 and fine-tunes
# add a few; Gemma's is 256,000, and a smaller one than LLaMA's is a Gemma that was made small.
_VOCABULARIES = {"gemma": {*range(32_000), 256_000}, "llama": range(32_000, 32_065)}
T5 = "T5"

# Tried in this order: Gemma-3 has Gemma-2's layers too.
OTHER_MODELS = {
    r"(^|\.)(x_embedder|patch_embedder)\.": "a diffusion model, not its text encoder",
    r"^(vision_tower|language_model|multi_modal_projector)\.": "a model for pictures and text",
    r"self_attn\.q_norm\.weight$": "Gemma-3 or Qwen3 (it normalises queries)",
    r"\.pre_feedforward_layernorm\.": "Gemma-2 (it normalises before the feed-forward)",
    r"self_attn\.q_proj\.bias$": "Qwen2 (its projections have a bias)",
    r"^tok_embeddings\.": "LLaMA in Meta's own format; its Hugging Face folder ends in -hf",
    r"^encoder\.block\.1\..*relative_attention_bias": "UMT5 (each layer has its own positions)",
    r"^encoder\.block\.": T5,
    r"text_model\.": "CLIP",
}


def _is_left_out(key: str) -> bool:
    return key.endswith("rotary_emb.inv_freq") or "." not in key


def layer_count(native: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number in the keys that begin with `pattern`; at least one."""
    numbers = [re.match(pattern, key) for key in native]
    return max((int(number[1]) + 1 for number in numbers if number), default=1)


def _module_names(layers: int) -> list[str]:
    inside = [f"self_attn.{name}_proj" for name in "qkvo"]
    inside += [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    inside += ["input_layernorm", "post_attention_layernorm"]
    stack = [f"layers.{layer}.{name}" for layer in range(layers) for name in inside]
    return ["embed_tokens", *stack, "norm"]
