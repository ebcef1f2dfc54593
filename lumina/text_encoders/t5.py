"""T5's encoder from a checkpoint's tensors: its names and sizes.

Version 1.0 and 1.1 of any size (arXiv:1910.10683), and what was made from them: Flan-T5, T5-LM.
Names are the Hugging Face checkpoint's. Tensors are passed on, never copied or cast.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .weights import check_names, layer_count

EMBEDDING = "shared.weight"
_SAME_EMBEDDING = "encoder.embed_tokens.weight"
_ATTENTION = "encoder.block.{}.layer.0.SelfAttention"
_FEED_FORWARD = "encoder.block.{}.layer.1.DenseReluDense"
_POSITIONS = _ATTENTION.format(0) + ".relative_attention_bias"


@dataclass(frozen=True)
class T5Config:
    """Sizes of an encoder. is_gated: GELU and a gate, as in version 1.1; otherwise a plain ReLU."""

    vocab_size: int
    d_model: int
    d_ff: int
    d_kv: int
    num_layers: int
    num_heads: int
    is_gated: bool


def t5_config(native: Mapping[str, Tensor]) -> T5Config:
    """Sizes of an encoder from the shapes of its tensors, named as `t5_to_native` does."""
    is_gated = _FEED_FORWARD.format(0) + ".wi_0.weight" in native
    first = _FEED_FORWARD.format(0) + (".wi_0.weight" if is_gated else ".wi.weight")
    vocab_size, d_model = native[EMBEDDING].shape
    heads = native[_POSITIONS + ".weight"].shape[1]
    return T5Config(
        vocab_size=vocab_size,
        d_model=d_model,
        d_ff=len(native[first]),
        d_kv=len(native[_ATTENTION.format(0) + ".q.weight"]) // heads,
        num_layers=_layers(native),
        num_heads=heads,
        is_gated=is_gated,
    )


def t5_to_native(
    state_dict: Mapping[str, Tensor], *, source: str = "The text encoder file"
) -> dict[str, Tensor]:
    """The encoder's tensors, its embedding as "shared.weight"; they are not copied.

    Leaves out the decoder, the output head and whatever has no dot in its name (a tokenizer kept
    with the weights). Raises ValueError that names `source` and the missing or unknown key.
    """
    native = {
        key: tensor
        for key, tensor in state_dict.items()
        if "." in key and not key.startswith(("decoder.", "lm_head."))
    }
    for key in list(native):
        module, _, kind = key.rpartition(".")
        if module == _SAME_EMBEDDING.rpartition(".")[0]:
            native.setdefault(f"shared.{kind}", native.pop(key))
    check_names(native, _module_names(native), set(), "a plain T5", source)
    return native


def _layers(native: Mapping[str, Tensor]) -> int:
    return layer_count(native, r"encoder\.block\.(\d+)\.")


def _module_names(native: Mapping[str, Tensor]) -> list[str]:
    is_gated = any(".wi_0." in key for key in native)
    inner = ("wi_0", "wi_1", "wo") if is_gated else ("wi", "wo")
    stack = []
    for layer in range(_layers(native)):
        stack += [f"{_ATTENTION.format(layer)}.{name}" for name in "qkvo"]
        stack += [f"{_FEED_FORWARD.format(layer)}.{name}" for name in inner]
        stack += [f"encoder.block.{layer}.layer.{half}.layer_norm" for half in (0, 1)]
    return ["shared", _POSITIONS, *stack, "encoder.final_layer_norm"]
