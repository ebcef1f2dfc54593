"""Names of weights: the form of a key map, and the map of Next-DiT's names.

Ours are the released names; diffusers' are mapped onto them. Tensors are passed on, never copied or
cast, so weights mapped from disk stay there. One name differs inside the module: `attention.gate`
in files is `attention.gate.weight` there (see `HeadGate`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from .files import counted
from .wrong_models import identify

StateDict = Mapping[str, Tensor]

_NUMBER = re.compile(r"\.(\d+)(?=\.|$)")


class KeyMap:
    """Names in a file to ours, row by row; the first row that fits is taken.

    {} in a row stands for a number, * for whatever is left of the name. A row that leads to None is
    of something known and not needed. A name that no row fits is ours already, or unknown.
    """

    def __init__(self, rows: Mapping[str, str | None]) -> None:
        self.rows = rows
        # Asked by a name without its numbers, of which a model has few.
        self._look_up = lru_cache(maxsize=4096)(self._first_fitting)

    def __call__(self, name: str) -> str | None:
        """Our name for one of a file's; None where it is not needed."""
        ours, numbers = self._look_up(_NUMBER.sub(".{}", name)), iter(_NUMBER.findall(name))
        return ours and re.sub(r"\{\}", lambda braces: next(numbers, braces[0]), ours)

    def _first_fitting(self, pattern: str) -> str | None:
        for row, ours in self.rows.items():
            head, star, tail = row.partition("*")
            if pattern == row:
                return ours
            is_long_enough = len(pattern) > len(head) + len(tail)
            if star and is_long_enough and pattern.startswith(head) and pattern.endswith(tail):
                rest = pattern[len(head) : len(pattern) - len(tail)]
                return ours and ours.replace("*", rest)
        return pattern

    def rename(self, state_dict: StateDict) -> dict[str, Tensor]:
        """The tensors that are needed, under our names; of two for one name the first."""
        renamed: dict[str, Tensor] = {}
        for name, tensor in state_dict.items():
            ours = self(name)
            if ours is not None:
                renamed.setdefault(ours, tensor)
        return renamed


def layer_count(keys: Iterable[str], pattern: str) -> int:
    """One more than the largest number at {} in the keys that begin with `pattern`; at least 1."""
    begin = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)"))
    numbers = (int(match[1]) for match in map(begin.match, keys) if match)
    return max(numbers, default=0) + 1


# diffusers' LuminaNextDiT2DModel, then what its conversion script writes; last what is left out:
# the learned filler between pictures of different size in one batch, which are never mixed here,
# and what ComfyUI's "Save Checkpoint" saves in one file with the model.
NEXT_DIT_KEYS = KeyMap(
    {
        "patch_embedder.proj.*": "x_embedder.*",
        "time_caption_embed.timestep_embedder.linear_1.*": "t_embedder.mlp.0.*",
        "time_caption_embed.timestep_embedder.linear_2.*": "t_embedder.mlp.2.*",
        "time_caption_embed.caption_embedder.{}.*": "cap_embedder.{}.*",
        "layers.{}.gate": "layers.{}.attention.gate",
        "layers.{}.attn1.to_q.*": "layers.{}.attention.wq.*",
        "layers.{}.attn1.to_k.*": "layers.{}.attention.wk.*",
        "layers.{}.attn1.to_v.*": "layers.{}.attention.wv.*",
        "layers.{}.attn1.norm_q.*": "layers.{}.attention.q_norm.*",
        "layers.{}.attn1.norm_k.*": "layers.{}.attention.k_norm.*",
        "layers.{}.attn2.to_q.*": "layers.{}.attention.wq.*",  # stored twice: one query for both
        "layers.{}.attn2.norm_q.*": "layers.{}.attention.q_norm.*",
        "layers.{}.attn2.to_k.*": "layers.{}.attention.wk_y.*",
        "layers.{}.attn2.to_v.*": "layers.{}.attention.wv_y.*",
        "layers.{}.attn2.norm_k.*": "layers.{}.attention.ky_norm.*",
        "layers.{}.attn2.to_out.{}.*": "layers.{}.attention.wo.*",
        "layers.{}.norm1.linear.*": "layers.{}.adaLN_modulation.1.*",
        "layers.{}.norm1.norm.*": "layers.{}.attention_norm1.*",
        "layers.{}.norm2.*": "layers.{}.attention_norm2.*",
        "layers.{}.norm1_context.*": "layers.{}.attention_y_norm.*",
        "layers.{}.feed_forward.linear_1.*": "layers.{}.feed_forward.w1.*",
        "layers.{}.feed_forward.linear_2.*": "layers.{}.feed_forward.w2.*",
        "layers.{}.feed_forward.linear_3.*": "layers.{}.feed_forward.w3.*",
        "norm_out.linear_1.*": "final_layer.adaLN_modulation.1.*",
        "norm_out.linear_2.*": "final_layer.linear.*",
        "patch_embedder.*": "x_embedder.*",
        "layers.{}.attn_norm1.*": "layers.{}.attention_norm1.*",
        "layers.{}.attn_norm2.*": "layers.{}.attention_norm2.*",
        "layers.{}.attention.gate.*": "layers.{}.attention.gate",
        "pad_token": None,
        "vae.*": None,
        "first_stage_model.*": None,
        "text_encoders.*": None,
        "cond_stage_model.*": None,
        "conditioner.*": None,
    }
)
QUANTIZATION = (
    "weight_scale", "weight_scale_2", "scale_weight", "input_scale", "scale_input",
    "pre_quant_scale", "comfy_quant",
)  # fmt: skip


_GATE = ".attention.gate"
_OURS = re.compile(
    r"((?:(?:_orig_mod|module|model|diffusion_model|transformer)\.)*)"
    r"(?:layers\.\d+|[xt]_embedder|cap_embedder|final_layer"
    r"|patch_embedder|time_caption_embed|norm_out)\..+"
)


def to_native(state_dict: StateDict, source: str = "The checkpoint") -> dict[str, Tensor]:
    """The same tensors under the released names.

    Accepts those, diffusers', and either behind the usual prefixes; leaves out `pad_token` and
    other models in the same file. Quantization scales follow their weight. Raises ValueError for
    another model, and for a diffusers fine-tune whose two query projections have diverged.
    """
    prefix = prefix_of(state_dict, source)
    native: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        bare = key.removeprefix(prefix)
        name = NEXT_DIT_KEYS(bare)
        if name is None:
            continue
        if name in native and not is_same(native[name], tensor):
            raise ValueError(_two_values_text(name, bare, source))
        native.setdefault(name, tensor)
    return native


def prefix_of(keys: Iterable[str], source: str = "The checkpoint") -> str:
    """What stands before the names of a Next-DiT: "" or, say, "model.diffusion_model.".

    Raises ValueError if these are not a Next-DiT's, saying whose they are where that is known.
    """
    keys = list(keys)
    other = identify(keys)
    if other:
        raise ValueError(f"{source} is not a Lumina-Next model but {other.name}. {other.advice}")
    prefixes = Counter(match[1] for match in map(_OURS.fullmatch, keys) if match)
    if not prefixes:
        first = f', first "{keys[0]}"' if keys else ""
        raise ValueError(
            f"{source} is not a Lumina-Next model: it has {counted(len(keys), 'weight')}, none of "
            f"them by a name that Next-DiT uses{first}."
        )
    return prefixes.most_common(1)[0][0]


def to_module_keys(native: StateDict) -> dict[str, Tensor]:
    """Released names, with any prefix -> those of `NextDiT.state_dict()`."""
    return {key + ".weight" if key.endswith(_GATE) else key: t for key, t in native.items()}


def to_file_keys(module_state: StateDict) -> dict[str, Tensor]:
    """Names of `NextDiT.state_dict()`, with any prefix -> the released ones."""
    return {
        key.removesuffix(".weight") if key.endswith(_GATE + ".weight") else key: tensor
        for key, tensor in module_state.items()
    }


def is_quantization(key: str) -> bool:
    """Whether this is not a weight but says how weights are quantized."""
    return key == "scaled_fp8" or key.rpartition(".")[2] in QUANTIZATION


def is_same(a: Tensor, b: Tensor) -> bool:
    """Equal in type, shape and every value."""
    return a is b or (a.dtype == b.dtype and torch.equal(a, b))


def _two_values_text(name: str, key: str, source: str) -> str:
    if not key.startswith("layers.") or ".attn" not in key:
        return f'{source} has two different values for "{name}". Save it under one set of names.'
    layer = key.split(".")[1]
    return (
        f"{source} was fine-tuned in diffusers into something Next-DiT cannot represent: in layer "
        f'{layer}, "{key}" differs from its twin in the other attention (attn1 or attn2). Next-DiT '
        "has one query for both. Use the original, or a fine-tune that trains them together."
    )
