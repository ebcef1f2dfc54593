"""A decoder from a checkpoint's tensors: its names and sizes.

Names are the Hugging Face checkpoint's without the `model.` prefix. Tensors are passed on, never
copied or cast. `config_json` is what the model's config.json says, where there is one; shapes alone
tell most, but not everything, and not a Gemma of a small vocabulary from a LLaMA.
"""

from functools import partial

import torch
from torch import Tensor

from ..checkpoints import strict
from ..checkpoints.key_names import KeyMap, StateDict, layer_count
from .config import FAMILIES, DecoderConfig
from .decoder import Decoder
from .families import ConfigJson, explain_unknown, family_of

RELEASED_HEAD_DIM = {"gemma": 256, "llama": 128}
RELEASED_NORM_EPS = {"gemma": 1e-6, "llama": 1e-5}
# Of LLaMA-2 7B, 13B and 70B. Relatives of the same vocabulary have other widths and head sizes.
LLAMA_WIDTHS = (4096, 5120, 8192)
OUTPUT_HEAD = "lm_head.weight"
DECODER_KEYS = KeyMap(
    {
        "*.rotary_emb.inv_freq": None,  # stored tables, computed anew here
        "model.*": "*",
    }
)


def load_decoder(
    state_dict: StateDict,
    config_json: ConfigJson | None = None,
    *,
    dtype: torch.dtype | None = None,
    source: str = "The text encoder file",
) -> Decoder:
    """A decoder on torch's layers holding the file's own tensors, ready to run.

    dtype None keeps the file's. Raises ValueError as `to_native` does.
    """
    native = to_native(state_dict, config_json, source=source)
    # Built without memory: initializing two billion weights only to replace them takes a minute.
    model = Decoder(decoder_config(native, config_json), device="meta")
    model.load_state_dict(native, assign=True)
    return model.to(dtype=dtype).eval().requires_grad_(False)


def to_native(
    state_dict: StateDict,
    config_json: ConfigJson | None = None,
    *,
    source: str = "The text encoder file",
) -> dict[str, Tensor]:
    """The decoder's tensors under this module's names; they are not copied.

    Takes files with and without the `model.` prefix. Leaves out an output head that is the
    embedding again (Gemma's), stored rotary tables and whatever has no dot in its name (a tokenizer
    kept with the weights). Raises ValueError that names `source`: for another model, for a key that
    is missing, unknown or of another shape, or for what `decoder_config` refuses.
    """
    native = _renamed(state_dict, config_json)
    config = decoder_config(native, config_json, source=source)
    expected = strict.shapes_of(Decoder(config, device="meta"))
    strict.check(native, expected, source, network_name=FAMILIES[config.family].name)
    return native


def _renamed(state_dict: StateDict, config_json: ConfigJson | None) -> dict[str, Tensor]:
    renamed = DECODER_KEYS.rename(state_dict)
    native = {key: tensor for key, tensor in renamed.items() if "." in key}
    if family_of(native, config_json) == "gemma":
        native.pop(OUTPUT_HEAD, None)
    return native


def decoder_config(
    state_dict: StateDict,
    config_json: ConfigJson | None = None,
    *,
    source: str = "The text encoder file",
) -> DecoderConfig:
    """Family and sizes of a decoder, from its tensors' shapes and what its config.json says.

    head_dim is not in the shapes. Unless config.json says it, it is that of the released models:
    128 for LLaMA, 256 for Gemma where that divides the rows of k_proj; otherwise those rows are
    the one key head. Raises ValueError for another model, if the projections are no multiple of
    head_dim, or if nothing tells it.
    """
    config_json = config_json or {}
    native = _renamed(state_dict, config_json)
    family = family_of(native, config_json)
    if family not in FAMILIES:
        raise ValueError(explain_unknown(native, config_json, source, known="Gemma-1, LLaMA-2"))
    size = partial(strict.size, native, source=source)
    hidden_size = size("embed_tokens.weight", axis=1)
    q_rows = size("layers.0.self_attn.q_proj.weight")
    k_rows = size("layers.0.self_attn.k_proj.weight")
    head_dim = _head_dim(config_json, q_rows) or _released_head_dim(
        family, hidden_size, k_rows, source
    )
    if q_rows % head_dim or k_rows % head_dim:
        raise ValueError(
            f"The q_proj of {source} has {q_rows} rows and its k_proj {k_rows}: both must be "
            f"multiples of the head size {head_dim}. Its config.json belongs to another model."
        )
    return DecoderConfig(
        family=family,
        vocab_size=size("embed_tokens.weight"),
        hidden_size=hidden_size,
        intermediate_size=size("layers.0.mlp.gate_proj.weight"),
        layers=layer_count(native, "layers.{}."),
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


def _released_head_dim(family: str, hidden_size: int, k_rows: int, source: str) -> int:
    if family == "llama" and hidden_size not in LLAMA_WIDTHS:
        raise ValueError(
            f"{source} is a relative of LLaMA-2 with {hidden_size} features per token, and how "
            "large its attention heads are is not in the weights. Choose its whole Hugging Face "
            "folder, config.json included."
        )
    released = RELEASED_HEAD_DIM[family]
    return released if k_rows % released == 0 else k_rows


def _rope_theta(config_json: ConfigJson) -> float:
    """Under its own name in older files, within a group of its kind in those of transformers 5."""
    grouped = config_json.get("rope_parameters") or {}
    return config_json.get("rope_theta") or grouped.get("rope_theta", 1e4)
