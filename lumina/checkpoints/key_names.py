"""Key maps from a file's weight names to native ones, and the key map of Next-DiT.

Native names are the released ones; diffusers' are mapped onto them. Tensors are never copied or
cast, so memory-mapped weights stay on disk. The module has one other name: a file's
`attention.gate` is its `attention.gate.weight` (see `HeadGate`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from . import limits
from .wording import counted, quoted
from .wrong_models import identify

StateDict = Mapping[str, Tensor]

_NUMBER = re.compile(r"\.(\d+)(?=\.|$)")


class KeyMap:
    """Rows (name in a file -> native name); the first row that matches a name is used.

    In a row, {} matches a number and * the rest of the name. None marks tensors that are known and
    not needed. A name that no row matches is returned unchanged: it is native, or unknown.
    """

    def __init__(self, rows: Mapping[str, str | None]) -> None:
        self.rows = rows
        # Cached by the name without its numbers: a model has few such patterns.
        self._look_up = lru_cache(maxsize=4096)(self._first_match)

    def __call__(self, name: str) -> str | None:
        """The native name for a name in a file; None where the tensor is not needed."""
        native, numbers = self._look_up(_NUMBER.sub(".{}", name)), iter(_NUMBER.findall(name))
        return native and re.sub(r"\{\}", lambda braces: next(numbers, braces[0]), native)

    def _first_match(self, name: str) -> str | None:
        for row, native in self.rows.items():
            prefix, star, suffix = row.partition("*")
            if name == row:
                return native
            is_long_enough = len(name) > len(prefix) + len(suffix)
            if star and is_long_enough and name.startswith(prefix) and name.endswith(suffix):
                wildcard = name[len(prefix) : len(name) - len(suffix)]
                return native and native.replace("*", wildcard)
        return name

    def names_of(self, native: str) -> list[str]:
        """The names in files that become `native`; 0 stands for a number that it does not have."""
        names = []
        for row, target in self.rows.items():
            pattern = (
                re.escape(target or "").replace(r"\{\}", r"(\d+)").replace(r"\*", "(?P<rest>.+)")
            )
            match = re.fullmatch(pattern, native)
            if match is None or ("*" in row) != ("rest" in match.groupdict()):
                continue
            numbers = match.groups()[: -1 if "*" in row else None]
            rest = match["rest"] if "*" in row else ""  # stars stand at the end of a row
            names.append(_numbered(row, numbers).replace("*", rest))
        return names

    def rename(self, state_dict: StateDict, source: str, prefix: str = "") -> dict[str, Tensor]:
        """The needed tensors under native names; names in the file may have the prefix.

        Raises ValueError that names `source` if two tensors for one native name differ.
        """
        renamed: dict[str, Tensor] = {}
        for key, tensor in state_dict.items():
            bare = key.removeprefix(prefix)
            name = self(bare)
            if name is None:
                continue
            if not is_same(renamed.setdefault(name, tensor), tensor):
                raise ValueError(_two_values_text(name, bare, source))
        return renamed


def _numbered(row: str, numbers: Iterable[str]) -> str:
    """A row with the numbers in its braces, in order, and 0 in those that are left."""
    for number in numbers:
        row = row.replace("{}", number, 1)
    return row.replace("{}", "0")


def layer_count(keys: Iterable[str], pattern: str, source: str = "The checkpoint") -> int:
    """One more than the largest number at {} in the keys that start with `pattern`; at least 1.

    Raises ValueError for more layers than any model has.
    """
    prefix = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)"))
    count = 1
    for match in filter(None, map(prefix.match, keys)):
        digits = match[1].lstrip("0")
        if len(digits) > len(str(limits.LAYERS)) or int(digits or 0) >= limits.LAYERS:
            raise ValueError(
                f"{source} is damaged: it has {quoted(match.string)}, and no model has more than "
                f"{limits.LAYERS} layers. Download it again."
            )
        count = max(count, int(digits or 0) + 1)
    return count


# First the names in diffusers' LuminaNextDiT2DModel, then those its conversion script writes. Last
# the tensors that are left out: pad_token, which pads pictures of different sizes in one batch, and
# here all have one size; and what ComfyUI's "Save Checkpoint" adds to the model.
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
# What follows the name of a quantized layer, in ComfyUI's format and in those that it converts.
SCALES = frozenset(
    ("comfy_quant", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale")
)
OLD_SCALES = frozenset(("weight_scale", "input_scale", "scale_weight", "scale_input"))


# Released parameters that are modules of their own here.
_BARE = (".attention.gate", "eol_token")
_NEXT_DIT_KEY = re.compile(
    r"((?:(?:_orig_mod|module|model|diffusion_model|transformer)\.)*)"
    r"(?:layers\.\d+|[xt]_embedder|cap_embedder|final_layer"
    r"|patch_embedder|time_caption_embed|norm_out)\..+"
)


def to_native(state_dict: StateDict, source: str = "The checkpoint") -> dict[str, Tensor]:
    """The same tensors under the released names.

    Accepts released and diffusers names, with or without a usual prefix; leaves out `pad_token` and
    other models in the same file. Quantization scales are renamed with their weight. Raises
    ValueError for another model, and for a diffusers fine-tune whose two query projections differ.
    """
    return NEXT_DIT_KEYS.rename(state_dict, source, prefix_of(state_dict, source))


def prefix_of(keys: Iterable[str], source: str = "The checkpoint") -> str:
    """The prefix of a Next-DiT's keys: "" or, for example, "model.diffusion_model.".

    Raises ValueError if they are another model's keys, naming the model where it is known.
    """
    keys = list(keys)
    other = identify(keys)
    if other:
        raise ValueError(f"{source} is not a Lumina-Next model but {other.name}. {other.advice}")
    prefixes = Counter(match[1] for match in map(_NEXT_DIT_KEY.fullmatch, keys) if match)
    if not prefixes:
        first = f", first {quoted(keys[0])}" if keys else ""
        raise ValueError(
            f"{source} is not a Lumina-Next model: it has {counted(len(keys), 'weight')}, none of "
            f"them by a name that Next-DiT uses{first}."
        )
    return prefixes.most_common(1)[0][0]


def to_module_keys(native: StateDict) -> dict[str, Tensor]:
    """Released names to those of a network's state_dict(); keys may have a prefix."""
    return {key + ".weight" if key.endswith(_BARE) else key: t for key, t in native.items()}


def to_file_keys(module_state: StateDict) -> dict[str, Tensor]:
    """Names of a network's state_dict() to the released ones; keys may have a prefix."""
    return {file_key(key): tensor for key, tensor in module_state.items()}


def file_key(key: str) -> str:
    """The released name of a weight in a network's state_dict()."""
    bare = key.removesuffix(".weight")
    return bare if bare.endswith(_BARE) else key


def is_quantization(key: str) -> bool:
    """Whether a key names quantization data, such as a scale, and not a weight."""
    return key == "scaled_fp8" or key.rpartition(".")[2] in SCALES | OLD_SCALES


def is_same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal in dtype, shape and, where they have data, every value."""
    if a.is_meta or b.is_meta:
        return a.dtype == b.dtype and a.shape == b.shape
    return a is b or (a.dtype == b.dtype and torch.equal(a, b))


def _two_values_text(name: str, key: str, source: str) -> str:
    if not key.startswith("layers.") or ".attn" not in key:
        return (
            f"{source} has two different values for {quoted(name)}. Save it under one set of names."
        )
    layer = key.split(".")[1]
    return (
        f"{source} was fine-tuned in diffusers into something Next-DiT cannot represent: in layer "
        f"{layer}, {quoted(key)} differs from its twin in the other attention (attn1 or attn2). "
        "Next-DiT has one query for both. Use the original, or a fine-tune that trains them "
        "together."
    )
