"""Key names and sizes of a decoder from a checkpoint's tensors, and loading it in plain torch.

Names are the Hugging Face checkpoint's without the `model.` prefix. Tensors are never copied or
cast. `config_json` is the model's parsed config.json, if there is one: shapes do not tell
everything, such as a Gemma with a small vocabulary from a LLaMA.
"""

from functools import partial

import torch
from torch import Tensor

from ..checkpoints import strict
from ..checkpoints.config_json import ConfigJson, group, number
from ..checkpoints.config_json import size as size_in
from ..checkpoints.key_names import KeyMap, StateDict, layer_count
from .config import FAMILIES, DecoderConfig
from .decoder import Decoder
from .families import explain_unknown, family_of

RELEASED_HEAD_DIM = {"gemma": 256, "llama": 128}
RELEASED_NORM_EPS = {"gemma": 1e-6, "llama": 1e-5}
# LLaMA-2 7B, 13B and 70B. Relatives with the same vocabulary have other widths and head sizes.
LLAMA_WIDTHS = (4096, 5120, 8192)
OUTPUT_HEAD = "lm_head.weight"
DECODER_KEYS = KeyMap(
    {
        "*.rotary_emb.inv_freq": None,  # stored tables, which are computed here
        "rotary_emb.inv_freq": None,
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
    """A decoder on torch's layers with the file's own tensors, ready to run.

    dtype None keeps the file's dtype. Raises ValueError as `to_native` does, and for weights that
    torch's layers cannot compute with.
    """
    native = to_native(state_dict, config_json, source=source)
    strict.refuse_uncomputable(native, dtype, source)
    # On "meta": initializing two billion weights only to replace them takes a minute.
    model = Decoder(decoder_config(native, config_json), device="meta")
    model.load_state_dict(native, assign=True)
    return model.to(dtype=dtype).eval().requires_grad_(False)


def to_native(
    state_dict: StateDict,
    config_json: ConfigJson | None = None,
    *,
    source: str = "The text encoder file",
) -> dict[str, Tensor]:
    """The decoder's own tensors, not copied, under the names of `Decoder`.

    Keys may have the `model.` prefix. Leaves out a tied output head (Gemma's), stored rotary
    tables, and names without a dot (a tokenizer inside the file). Raises ValueError that names
    `source` and a key that is missing, unknown, of another shape, or there twice with different
    values; or as `decoder_config` does.
    """
    native = _renamed(state_dict, config_json, source)
    config = decoder_config(native, config_json, source=source)
    expected = strict.shapes_of(Decoder(config, device="meta"))
    strict.check(native, expected, source, network_name=FAMILIES[config.family].name)
    return native


def _renamed(
    state_dict: StateDict, config_json: ConfigJson | None, source: str
) -> dict[str, Tensor]:
    renamed = DECODER_KEYS.rename(state_dict, source)
    native = {key: tensor for key, tensor in renamed.items() if "." in key}
    family = FAMILIES.get(family_of(native, config_json) or "")
    if family and family.ties_head:  # a head in the file repeats the embedding, scales included
        native = {key: t for key, t in native.items() if not key.startswith("lm_head.")}
    return native


def decoder_config(
    state_dict: StateDict,
    config_json: ConfigJson | None = None,
    *,
    source: str = "The text encoder file",
) -> DecoderConfig:
    """Family and sizes of a decoder, from its tensors' shapes and its config.json.

    Shapes do not tell head_dim. Without a config.json it is that of the released models: 128 for
    LLaMA; for Gemma 256 where that divides the rows of k_proj, otherwise those rows are the one key
    head. Raises ValueError for another model, for an unknown head_dim, or if it does not divide
    the rows of the projections.
    """
    config_json = config_json or {}
    native = _renamed(state_dict, config_json, source)
    family = family_of(native, config_json)
    if family not in FAMILIES:
        raise ValueError(explain_unknown(native, config_json, source, known="Gemma-1, LLaMA-2"))
    size = partial(strict.size, native, source=source)
    hidden_size = size("embed_tokens.weight", axis=1)
    q_rows = size("layers.0.self_attn.q_proj.weight")
    k_rows = size("layers.0.self_attn.k_proj.weight")
    head_dim = _head_dim(config_json, q_rows, source)
    head_dim = head_dim or _released_head_dim(family, hidden_size, k_rows, source)
    _check_head_dim(head_dim, q_rows, k_rows, source)
    return DecoderConfig(
        family=family,
        vocab_size=size("embed_tokens.weight"),
        hidden_size=hidden_size,
        intermediate_size=size("layers.0.mlp.gate_proj.weight"),
        layers=layer_count(native, "layers.{}.", source),
        heads=q_rows // head_dim,
        kv_heads=k_rows // head_dim,
        head_dim=head_dim,
        norm_eps=number(config_json, "rms_norm_eps", 0, 1, source) or RELEASED_NORM_EPS[family],
        rope_theta=_rope_theta(config_json, source),
        has_output_head=OUTPUT_HEAD in native,
        ties_head=config_json.get("tie_word_embeddings") is True,
    )


def _head_dim(config_json: ConfigJson, q_rows: int, source: str) -> int | None:
    heads = size_in(config_json, "num_attention_heads", source)
    head_dim = size_in(config_json, "head_dim", source)
    return head_dim or (q_rows // heads if heads else None)


def _released_head_dim(family: str, hidden_size: int, k_rows: int, source: str) -> int:
    if family == "llama" and hidden_size not in LLAMA_WIDTHS:
        raise ValueError(
            f"{source} is a relative of LLaMA-2 with {hidden_size} features per token, and how "
            "large its attention heads are is not in the weights. Choose its whole Hugging Face "
            "folder, config.json included."
        )
    released = RELEASED_HEAD_DIM[family]
    return released if k_rows % released == 0 else k_rows


def _check_head_dim(head_dim: int, q_rows: int, k_rows: int, source: str) -> None:
    if q_rows % head_dim or k_rows % head_dim:
        raise ValueError(
            f"The q_proj of {source} has {q_rows} rows and its k_proj {k_rows}: both must be "
            f"multiples of the head size {head_dim}. Its config.json belongs to another model."
        )


def _rope_theta(config_json: ConfigJson, source: str) -> float:
    """At the top level in older files; transformers 5 writes it into "rope_parameters"."""
    for settings in (config_json, group(config_json, "rope_parameters")):
        theta = number(settings, "rope_theta", 1, 1e12, source)
        if theta is not None:
            return theta
    return 1e4
