"""Key names and sizes of T5's encoder, from a checkpoint's tensors.

Versions 1.0 and 1.1 in any size (arXiv:1910.10683), and models trained from them: Flan-T5, T5-LM.
Names are the Hugging Face checkpoint's. Tensors are never copied or cast.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..checkpoints import strict
from ..checkpoints.key_names import KeyMap, StateDict, layer_count

T5_KEYS = KeyMap(
    {
        "decoder.*": None,
        "lm_head.*": None,
        "encoder.embed_tokens.*": "shared.*",
    }
)
BLOCK = "encoder.block.{}."
ATTENTION = BLOCK + "layer.0.SelfAttention."
FEED_FORWARD = BLOCK + "layer.1.DenseReluDense."
POSITIONS = ATTENTION.format(0) + "relative_attention_bias.weight"
POSITION_BUCKETS = 32


@dataclass(frozen=True)
class T5Config:
    """Sizes of T5's encoder. is_gated: gated GELU, as in version 1.1; otherwise a plain ReLU."""

    vocab_size: int
    d_model: int
    d_ff: int
    d_kv: int
    num_layers: int
    num_heads: int
    is_gated: bool


def t5_to_native(
    state_dict: StateDict, *, source: str = "The text encoder file"
) -> dict[str, Tensor]:
    """The encoder's own tensors, not copied; the embedding is "shared.weight".

    Leaves out the decoder, the output head, and names without a dot (a tokenizer inside the file).
    Raises ValueError that names `source` and a key that is missing, unknown, of another shape, or
    there twice with different values.
    """
    renamed = T5_KEYS.rename(state_dict, source)
    native = {key: tensor for key, tensor in renamed.items() if "." in key}
    expected = expected_shapes(t5_config(native, source=source))
    strict.check(native, expected, source, network_name="T5")
    return native


def t5_config(native: StateDict, *, source: str = "The text encoder file") -> T5Config:
    """Sizes from the shapes of tensors that `t5_to_native` has named.

    Raises ValueError naming a missing weight, or if the heads do not divide the rows of q.
    """
    size = partial(strict.size, native, source=source)
    is_gated = FEED_FORWARD.format(0) + "wi_0.weight" in native
    rows, heads = size(ATTENTION.format(0) + "q.weight"), size(POSITIONS, axis=1)
    if heads < 1 or rows % heads:
        raise ValueError(f"{source} is not a T5 that can run: {rows} rows of q and {heads} heads.")
    return T5Config(
        vocab_size=size("shared.weight"),
        d_model=size("shared.weight", axis=1),
        d_ff=size(FEED_FORWARD.format(0) + ("wi_0.weight" if is_gated else "wi.weight")),
        d_kv=rows // heads,
        num_layers=layer_count(native, BLOCK, source),
        num_heads=heads,
        is_gated=is_gated,
    )


def expected_shapes(config: T5Config) -> dict[str, torch.Size]:
    """Name and shape of each weight of an encoder."""
    width, inner = config.d_model, config.num_heads * config.d_kv
    shapes = {
        "shared.weight": (config.vocab_size, width),
        POSITIONS: (POSITION_BUCKETS, config.num_heads),
        "encoder.final_layer_norm.weight": (width,),
    }
    for layer in range(config.num_layers):
        attention, feed_forward = ATTENTION.format(layer), FEED_FORWARD.format(layer)
        shapes |= {f"{attention}{name}.weight": (inner, width) for name in "qkv"}
        shapes |= {f"{attention}o.weight": (width, inner)}
        inputs = ("wi_0", "wi_1") if config.is_gated else ("wi",)
        shapes |= {f"{feed_forward}{name}.weight": (config.d_ff, width) for name in inputs}
        shapes |= {f"{feed_forward}wo.weight": (width, config.d_ff)}
        norms = (f"{BLOCK.format(layer)}layer.{i}.layer_norm.weight" for i in (0, 1))
        shapes |= dict.fromkeys(norms, (width,))
    return {key: torch.Size(shape) for key, shape in shapes.items()}
