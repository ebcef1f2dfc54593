"""Gemma-1 from a checkpoint's tensors: its names, its sizes, and what another file is.

Names are the Hugging Face checkpoint's without the `model.` prefix. Tensors are passed on, never
copied or cast.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .gemma import Gemma, GemmaConfig

RELEASED_HEAD_DIM = 256


def load_gemma(
    state_dict: Mapping[str, Tensor],
    *,
    head_dim: int | None = None,
    dtype: torch.dtype | None = None,
    source: str = "The text encoder file",
) -> Gemma:
    """A Gemma on torch's layers holding the file's own tensors, ready to run.

    dtype None keeps the file's. Raises ValueError as `to_native` does, or RuntimeError naming a
    tensor of the wrong shape.
    """
    native = to_native(state_dict, source=source)
    # Built without memory: initialising two billion weights only to replace them takes a minute.
    model = Gemma(config_from_state_dict(native, head_dim), device="meta")
    model.load_state_dict(native, assign=True)
    return model.to(dtype=dtype).eval().requires_grad_(False)


def config_from_state_dict(
    state_dict: Mapping[str, Tensor], head_dim: int | None = None
) -> GemmaConfig:
    """The sizes a Gemma-1 file was saved with, read from its tensors' shapes.

    head_dim is not in the shapes. Unless given it is 256, as in every released Gemma-1, where
    that divides the rows of k_proj; otherwise those rows are taken as the one key head.
    Raises ValueError as `to_native` does, or if the projections are no multiple of head_dim.
    """
    native = to_native(state_dict)
    vocab_size, hidden_size = native["embed_tokens.weight"].shape
    q_rows = len(native["layers.0.self_attn.q_proj.weight"])
    k_rows = len(native["layers.0.self_attn.k_proj.weight"])
    if head_dim is None:
        head_dim = RELEASED_HEAD_DIM if k_rows % RELEASED_HEAD_DIM == 0 else k_rows
    if q_rows % head_dim or k_rows % head_dim:
        raise ValueError(
            f"The text encoder's q_proj has {q_rows} rows and its k_proj {k_rows}: both must be "
            f"multiples of the head size {head_dim}; pass the model's own head_dim"
        )
    return GemmaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=len(native["layers.0.mlp.gate_proj.weight"]),
        layers=_layer_count(native),
        heads=q_rows // head_dim,
        kv_heads=k_rows // head_dim,
        head_dim=head_dim,
    )


def to_native(
    state_dict: Mapping[str, Tensor], *, source: str = "The text encoder file"
) -> dict[str, Tensor]:
    """The decoder's tensors under this module's names; they are not copied.

    Takes files with and without the `model.` prefix. Leaves out the output head, which is the
    embedding again, stored rotary tables and whatever has no dot in its name (a tokenizer kept
    with the weights). Raises ValueError that names `source` and the missing or unknown key.
    """
    native = {key.removeprefix("model."): tensor for key, tensor in state_dict.items()}
    native = {key: tensor for key, tensor in native.items() if not _is_left_out(key)}
    found = describe(native)
    if found != "Gemma-1":
        raise ValueError(
            f"{source} is not a Gemma-1 text encoder: it looks like {found}. Lumina-Next was "
            "trained with google/gemma-2b (the first Gemma, 2 billion parameters); choose that."
        )
    modules = _module_names(_layer_count(native))
    missing = [name for name in modules if f"{name}.weight" not in native]
    if missing:
        raise ValueError(
            f'{source} is incomplete: "{missing[0]}.weight" is missing, with {len(missing) - 1} '
            f"more of {len(modules)}. If the model comes in several files, all of them are needed; "
            "if it is one file, download it again."
        )
    known = set(modules)
    # Only the module is compared: quantised files keep scales beside a weight.
    unknown = [key for key in native if key.rpartition(".")[0] not in known]
    if unknown:
        raise ValueError(f'{source} is not a plain Gemma-1: unknown key "{unknown[0]}".')
    return native


def describe(state_dict: Mapping[str, Tensor]) -> str:
    """Which text model a file holds, in words for an error text; "Gemma-1" for ours."""
    keys = {key.removeprefix("model.") for key in state_dict}
    for pattern, name in FAMILIES.items():
        if any(re.search(pattern, key) for key in keys):
            return name
    if not any(re.match(r"embed_tokens\.|layers\.\d+\.|norm\.", key) for key in keys):
        return f'something else (its first key is "{min(keys)}")' if keys else "an empty file"
    embedding = state_dict.get("embed_tokens.weight", state_dict.get("model.embed_tokens.weight"))
    # The tensors of LLaMA carry the same names; only the vocabulary tells: Gemma's is 256,000.
    if embedding is not None and 32_000 <= len(embedding) < 256_000:
        return f"LLaMA or a relative of it (a vocabulary of {len(embedding):,} tokens)"
    return "Gemma-1"


# Tried in this order: Gemma-3 has Gemma-2's layers too.
FAMILIES = {
    r"(^|\.)(x_embedder|patch_embedder)\.": "a diffusion model, not its text encoder",
    r"^(vision_tower|language_model|multi_modal_projector)\.": "a model for pictures and text",
    r"self_attn\.q_norm\.weight$": "Gemma-3 or Qwen3 (it normalises queries)",
    r"\.pre_feedforward_layernorm\.": "Gemma-2 (it normalises before the feed-forward)",
    r"self_attn\.q_proj\.bias$": "Qwen2 (its projections have a bias)",
    r"^encoder\.block\.": "T5",
    r"text_model\.": "CLIP",
}


def _is_left_out(key: str) -> bool:
    return key == "lm_head.weight" or key.endswith("rotary_emb.inv_freq") or "." not in key


def _layer_count(native: Mapping[str, Tensor]) -> int:
    numbers = [re.match(r"layers\.(\d+)\.", key) for key in native]
    return max((int(number[1]) + 1 for number in numbers if number), default=1)


def _module_names(layers: int) -> list[str]:
    inside = [f"self_attn.{name}_proj" for name in "qkvo"]
    inside += [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    inside += ["input_layernorm", "post_attention_layernorm"]
    stack = [f"layers.{layer}.{name}" for layer in range(layers) for name in inside]
    return ["embed_tokens", *stack, "norm"]
