"""LoRA files: for which weight of a network each tensor is, whatever names the trainer gave it.

A tensor's name is that of a module of the network, and which part of the module's change it is.
Modules come under released names or diffusers', with dots or with underscores in their place, and
after a prefix; parts under the names of kohya's trainer, PEFT, diffusers and LyCORIS.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..parameters import Parameter
from . import lora_parts
from .config_json import group, number
from .key_names import NEXT_DIT_KEYS, KeyMap, StateDict, file_key, is_same
from .lora_parts import Parts
from .strict import Shapes
from .wording import counted, quoted
from .wrong_models import identify

STRENGTH = Parameter(
    1.0,
    -10.0,
    10.0,
    "How much of the LoRA's change is added to the model, without unit. Higher makes it stronger, "
    "0 leaves it out, below 0 it is taken away.",
    step=0.05,
    precision=0.001,
)
# Rows of PEFT and diffusers, then of diffusers' older attention processors, then of LyCORIS' norms.
# PEFT writes the adapter's name, "default", where it saves without its own function.
PART_NAMES = KeyMap(
    {
        "*.lora_A.default.weight": "*.lora_down.weight",
        "*.lora_B.default.weight": "*.lora_up.weight",
        "*.lora_A.weight": "*.lora_down.weight",
        "*.lora_B.weight": "*.lora_up.weight",
        "*.lora_A": "*.lora_down.weight",
        "*.lora_B": "*.lora_up.weight",
        "*.lora_magnitude_vector.default.weight": "*.dora_scale",
        "*.lora_magnitude_vector.weight": "*.dora_scale",
        "*.lora_magnitude_vector.default": "*.dora_scale",
        "*.lora_magnitude_vector": "*.dora_scale",
        "*.default": "*",
        "*.lora.down.weight": "*.lora_down.weight",
        "*.lora.up.weight": "*.lora_up.weight",
        "*.lora_linear_layer.down.weight": "*.lora_down.weight",
        "*.lora_linear_layer.up.weight": "*.lora_up.weight",
        "*_lora.down.weight": "*.lora_down.weight",
        "*_lora.up.weight": "*.lora_up.weight",
        "*.w_norm": "*.diff",
        "*.b_norm": "*.diff_b",
    }
)
_PREFIX = re.compile(
    r"(?:_orig_mod_|module_|base_model_|model_|diffusion_model_|transformer_|unet_"
    r"|lora_unet_|lora_transformer_|lycoris_)*"
)
_OF_TEXT_ENCODER = re.compile(r"(lora_te\d?_|text_encoders?[._])")
_QUERY_OF_ONE = re.compile(r"attn[12][._].*q$")
HIGHEST_ALPHA = 2**20
Modules = dict[str, dict[str, Tensor]]  # the parts of each module's change


@dataclass
class Share:
    """Changes that are made together. of_strength: how much of the LoRA's strength each has.

    parts: by the weight that they change, named as in the network's state_dict().
    """

    of_strength: float
    parts: dict[str, Parts] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """All parts under the names that ComfyUI reads: "<weight's module>.<part>"."""
        return {
            f"{module_of(weight)}.{name}": part
            for weight, parts in self.parts.items()
            for name, part in parts.items()
        }


@dataclass(frozen=True)
class FittedLora:
    """A LoRA as changes of a network's weights.

    left_out: names of modules in the file that the network does not have, or has in another size.
    is_split: whether it changes the queries of the two attentions, which are one here, apart.
    """

    shares: list[Share]
    left_out: list[str]
    is_split: bool

    def weights(self) -> set[str]:
        return {weight for share in self.shares for weight in share.parts}


def module_of(weight: str) -> str:
    """A weight's name without ".weight"."""
    return weight.removesuffix(".weight")


def fit(lora: StateDict, shapes: Shapes, source: str) -> FittedLora:
    """The LoRA of a file on a network with weights of these names and shapes.

    Where diffusers trained the one query as two, each of the two changes has half the strength.
    Raises ValueError for a file that is no LoRA, is damaged, or is for another model.
    """
    modules, unknown = modules_of(lora, source)
    names = weight_names(shapes)
    found: dict[str, list[str]] = {}
    left_out = []
    for module, parts in modules.items():
        weight = names.get(_bare(module))
        bias = shapes.get(f"{module_of(weight or '')}.bias")
        if weight is not None and lora_parts.fit(parts, shapes[weight], bias):
            found.setdefault(weight, []).append(module)
        else:
            left_out.append(module)
    if not found:
        raise ValueError(_other_model_text(left_out, names, shapes, source))
    changes = {weight: _different(modules, twins) for weight, twins in found.items()}
    is_split = any(_is_split(found[weight], changes[weight]) for weight in found)
    return FittedLora(_shares(changes, modules), [*left_out, *unknown], is_split)


def _shares(changes: Mapping[str, list[str]], modules: Modules) -> list[Share]:
    """One for weights with one change, and one for each of several changes of a weight."""
    shares: dict[tuple[int, int], Share] = {}
    for weight, twins in changes.items():
        for number_of_twin, module in enumerate(twins):
            share = shares.setdefault((len(twins), number_of_twin), Share(1 / len(twins)))
            share.parts[weight] = modules[module]
    return list(shares.values())


def _is_split(found: list[str], different: list[str]) -> bool:
    is_of_one = len(found) == 1 and _QUERY_OF_ONE.search(found[0]) is not None
    return is_of_one or len(different) > 1


def modules_of(lora: StateDict, source: str) -> tuple[Modules, list[str]]:
    """The modules that a LoRA changes, by their names in the file, and tensors of no known kind.

    Raises ValueError for a file that is no LoRA or lacks a part of one.
    """
    modules: Modules = {}
    unknown = []
    for name, tensor in lora.items():
        module, part = _split(name)
        if part is None:
            unknown.append(name)
        else:
            modules.setdefault(module, {})[part] = tensor
    modules = {name: p for name, p in modules.items() if lora_parts.changes_something(p)}
    if not modules:
        raise ValueError(_no_lora_text(lora, source))
    for module, parts in modules.items():
        _check_parts(module, parts, source)
        if "dora_scale" in parts and parts["dora_scale"].ndim == 1:  # PEFT's, of each row
            parts["dora_scale"] = parts["dora_scale"].unsqueeze(1)
    return modules, unknown


def _check_parts(module: str, parts: Parts, source: str) -> None:
    missing = lora_parts.missing(parts)
    if missing:
        raise ValueError(
            f"{source} is damaged: of the change to {quoted(module)} it lacks the part "
            f"{quoted(missing)}. Download it again."
        )
    for name, tensor in parts.items():
        where = quoted(f"{module}.{name}")
        if tensor.is_complex() or not (tensor.is_floating_point() or name == "alpha"):
            raise ValueError(
                f"{source} is damaged: {where} is {tensor.dtype}, where numbers with a fraction "
                "belong. Download it again."
            )
        if not tensor.is_meta and not bool(torch.isfinite(tensor.float()).all()):
            raise ValueError(
                f"{source} is damaged: {where} is not finite (NaN or infinity). Download it again, "
                "or use an earlier state of its training."
            )


def with_peft_alpha(lora: StateDict, settings: Mapping[str, object], source: str) -> StateDict:
    """The LoRA with each module's alpha, which PEFT keeps beside the weights, as one more tensor.

    settings: of adapter_config.json, or of diffusers' metadata. A change is multiplied by alpha /
    rank, by alpha / sqrt(rank) for rank-stabilized LoRAs, and not at all where there is no alpha.
    """
    settings = {name.removeprefix("transformer."): value for name, value in settings.items()}
    alpha = number(settings, "lora_alpha", 0, HIGHEST_ALPHA, source)
    patterns = group(settings, "alpha_pattern")
    given = dict(lora)
    for name, tensor in lora.items():
        module, part = _split(name)
        if part != "lora_down.weight" or f"{module}.alpha" in lora or not tensor.ndim:
            continue
        own = _of_module(patterns, module, source)
        value = alpha if own is None else own
        if value is not None:
            scale = math.sqrt(tensor.shape[0]) if settings.get("use_rslora") is True else 1.0
            given[f"{module}.alpha"] = torch.tensor(value * scale)
    return given


def weight_names(shapes: Shapes) -> dict[str, str]:
    """From the bare names that LoRAs may have for a module to the name of its weight."""
    names = {}
    for key in shapes:
        if key.endswith(".weight"):
            for name in (key, *NEXT_DIT_KEYS.names_of(file_key(key))):
                names[module_of(name).replace(".", "_")] = key
    return names


def _split(name: str) -> tuple[str, str | None]:
    """The module of a tensor in a LoRA, and which part of a change it is; None if no known one."""
    module, _, part = (PART_NAMES(name) or name).rpartition(".")
    if part == "weight":
        module, _, before = module.rpartition(".")
        part = f"{before}.{part}"
    return (module, part) if module and part in lora_parts.NAMES else (name, None)


def _bare(module: str) -> str:
    """A module's name without prefixes, dots as underscores."""
    name = module.replace(".processor.", ".").replace(".", "_")
    prefix = _PREFIX.match(name)
    return name[prefix.end() :] if prefix else name


def _different(modules: Modules, names: Iterable[str]) -> list[str]:
    """Those of the modules whose change no other before it makes too."""
    different: list[str] = []
    for name in names:
        if not any(_is_same_change(modules[name], modules[other]) for other in different):
            different.append(name)
    return different


def _is_same_change(a: Parts, b: Parts) -> bool:
    return a.keys() == b.keys() and all(is_same(a[name], b[name]) for name in a)


def _of_module(patterns: Mapping[str, object], module: str, source: str) -> float | None:
    """The number of the first pattern that is a module's name, or its end."""
    for pattern in patterns:
        if module == pattern or module.endswith(f".{pattern}"):
            return number(patterns, pattern, 0, HIGHEST_ALPHA, source)
    return None


def _no_lora_text(lora: StateDict, source: str) -> str:
    first = f", first {quoted(next(iter(lora)))}" if lora else ""
    return (
        f"{source} is not a LoRA: it has {counted(len(lora), 'weight')}, none of them by a name "
        f"that a LoRA's parts have{first}. If it is a whole model, load it with "
        '"Load Lumina-Next Model".'
    )


def _other_model_text(
    modules: list[str], names: Mapping[str, str], shapes: Shapes, source: str
) -> str:
    for module in modules:
        weight = names.get(_bare(module))
        if weight is not None:
            size = " x ".join(map(str, shapes[weight]))
            return (
                f"{source} is a LoRA for a model of another size: its change to {quoted(module)} "
                f"does not fit this model's, which is {size}. Load the model that it was trained "
                "on, or a LoRA for this one."
            )
    if all(map(_OF_TEXT_ENCODER.match, modules)):
        return (
            f"{source} is a LoRA for a text encoder, not for a Lumina-Next model. Load it with "
            'ComfyUI\'s "Load LoRA", if it is for the text encoder that you use.'
        )
    other = identify(_dotted(modules))
    model = other.name if other else "another model"
    return (
        f"{source} is a LoRA for {model}, not for Lumina-Next: this model has none of the "
        f"{counted(len(modules), 'layer')} that it changes, first {quoted(modules[0])}. Use a "
        "LoRA that was trained on Lumina-Next."
    )


def _dotted(modules: Iterable[str]) -> Iterator[str]:
    """Names as a whole model's weights have them, also of modules named with underscores."""
    for module in modules:
        yield f"{module}.weight"
        yield re.sub(r"_(\d+)_", r".\1.", _bare(module)) + ".weight"
