"""A decoder from a checkpoint's tensors: its names and sizes.

Names are the Hugging Face checkpoint's without the `model.` prefix. Tensors are passed on, never
copied or cast. `config_json` is what the model's config.json says, where there is one; shapes alone
tell most, but not everything, and not a Gemma of a small vocabulary from a LLaMA.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .config import FAMILIES, DecoderConfig
from .decoder import Decoder
from .families import ConfigJson, explain_unknown, family_of

RELEASED_HEAD_DIM = {"gemma": 256, "llama": 128}
RELEASED_NORM_EPS = {"gemma": 1e-6, "llama": 1e-5}
# Of LLaMA-2 7B, 13B and 70B. Relatives of the same vocabulary have other widths and head sizes.
LLAMA_WIDTHS = (4096, 5120, 8192)
OUTPUT_HEAD = "lm_head.weight"


def load_decoder(
    state_dict: Mapping[str, Tensor],
    config_json: ConfigJson | None = None,
    *,
    dtype: torch.dtype | None = None,
    source: str = "The text encoder file",
) -> Decoder:
    """A decoder on torch's layers holding the file's own tensors, ready to run.

    dtype None keeps the file's. Raises ValueError as `to_native` does, or RuntimeError naming a
    tensor of the wrong shape.
    """
    native = to_native(state_dict, config_json, source=source)
    # Built without memory: initializing two billion weights only to replace them takes a minute.
    model = Decoder(decoder_config(native, config_json), device="meta")
    model.load_state_dict(native, assign=True)
    return model.to(dtype=dtype).eval().requires_grad_(False)


def decoder_config(
    state_dict: Mapping[str, Tensor],
    config_json: ConfigJson | None = None,
    *,
    source: str = "The text encoder file",
) -> DecoderConfig:
    """Family and sizes of a decoder, from its tensors' shapes and what its config.json states.

    head_dim is not in the shapes. Unless stated it is that of the released models: 128 for LLaMA,
    256 for Gemma where that divides the rows of k_proj; otherwise those rows are the one key head.
    Raises ValueError as `to_native` does, if the projections are no multiple of head_dim, or if
    nothing tells it.
    """
    config_json = config_json or {}
    native = to_native(state_dict, config_json, source=source)
    family = family_of(native, config_json)
    vocab_size, hidden_size = native["embed_tokens.weight"].shape
    q_rows = len(native["layers.0.self_attn.q_proj.weight"])
    k_rows = len(native["layers.0.self_attn.k_proj.weight"])
    head_dim = _head_dim(config_json, q_rows)
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
        norm_eps=config_json.get("rms_norm_eps", RELEASED_NORM_EPS[family]),
        rope_theta=_rope_theta(config_json),
        has_output_head=OUTPUT_HEAD in native,
    )


def _head_dim(config_json: ConfigJson, q_rows: int) -> int | None:
    heads = config_json.get("num_attention_heads")
    return config_json.get("head_dim") or (q_rows // heads if heads else None)


def _rope_theta(config_json: ConfigJson) -> float:
    """Under its own name in older files, within a group of its kind in those of transformers 5."""
    return config_json.get("rope_theta") or (config_json.get("rope_parameters") or {}).get(
        "rope_theta", 1e4
    )


def to_native(
    state_dict: Mapping[str, Tensor],
    config_json: ConfigJson | None = None,
    *,
    source: str = "The text encoder file",
) -> dict[str, Tensor]:
    """The decoder's tensors under this module's names; they are not copied.

    Takes files with and without the `model.` prefix. Leaves out an output head that is the
    embedding again (Gemma's), stored rotary tables and whatever has no dot in its name (a tokenizer
    kept with the weights). Raises ValueError that names `source` and the missing or unknown key.
    """
    native = _without_prefix(state_dict)
    family = family_of(native, config_json)
    if family not in FAMILIES:
        raise ValueError(explain_unknown(native, config_json, source, known="Gemma-1, LLaMA-2"))
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
    # Only the module is compared: quantized files keep scales beside a weight.
    unknown = [key for key in native if key.rpartition(".")[0] not in known]
    if unknown:
        raise ValueError(f'{source} is not {kind}: unknown key "{unknown[0]}".')


def _without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    native = {key.removeprefix("model."): tensor for key, tensor in state_dict.items()}
    return {key: tensor for key, tensor in native.items() if not _is_left_out(key)}


_LAYER = r"layers\.(\d+)\."


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
