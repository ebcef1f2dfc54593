"""What a LoRA changes in one weight, as the parts that its file holds: do they fit the weight?

A part is named by the end of its tensor's name in the way of LyCORIS, whatever the file calls it.
Shapes only are looked at, on device "meta". Kinds and formulas: LoRA (arXiv:2106.09685), LoHa and
LoKr (arXiv:2309.14859), GLoRA (arXiv:2306.07967), OFT (arXiv:2306.07280), BOFT (arXiv:2311.06243),
and plain differences.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Size, Tensor

Parts = Mapping[str, Tensor]

# By its main part, each kind's others, without which it is damaged.
NEEDS = {
    "lora_up.weight": ("lora_down.weight",),
    "lora_down.weight": ("lora_up.weight",),
    "hada_w1_a": ("hada_w1_b", "hada_w2_a", "hada_w2_b"),
    "lokr_w1_a": ("lokr_w1_b",),
    "lokr_w2_a": ("lokr_w2_b",),
    "a1.weight": ("a2.weight", "b1.weight", "b2.weight"),
}
# A LoKr's two factors may each be whole, or a product of two.
KRONECKER = ("lokr_w1", "lokr_w2")
NAMES = frozenset(
    (
        *NEEDS,
        *(name for others in NEEDS.values() for name in others),
        *KRONECKER,
        *("alpha", "dora_scale", "oft_blocks", "rescale", "diff", "diff_b", "set_weight"),
    )
)


def missing(parts: Parts) -> str | None:
    """A part without which the others mean nothing; None if none is missing."""
    for name, others in NEEDS.items():
        for other in others if name in parts else ():
            if other not in parts:
                return other
    if any(name.startswith("lokr_") for name in parts):
        for name in KRONECKER:
            if name not in parts and name + "_a" not in parts:
                return name
    return None


def fit(parts: Parts, weight: Size, bias: Size | None) -> bool:
    """Whether complete parts can change a weight of this shape, and its bias if it has one."""
    shapes = {name: torch.empty(part.shape, device="meta") for name, part in parts.items()}
    target = torch.empty(weight, device="meta")
    try:
        fits_weight = all(rule(shapes, target) for name, rule in RULES.items() if name in parts)
    except (RuntimeError, IndexError, ValueError):  # torch: the parts do not even fit each other
        return False
    return fits_weight and ("diff_b" not in parts or parts["diff_b"].shape == bias)


def changes_something(parts: Parts) -> bool:
    """Whether there is more than numbers beside a change, such as its strength."""
    return bool(parts.keys() - {"alpha", "dora_scale", "rescale"})


def _changes(weight: Tensor, change: Tensor) -> bool:
    is_as_large = change.numel() == weight.numel()  # a vector's change may come as one column
    return is_as_large and (weight.ndim < 2 or change.shape == weight.shape)


def _low_rank(parts: Parts, weight: Tensor) -> bool:
    up, down = parts["lora_up.weight"].flatten(1), parts["lora_down.weight"].flatten(1)
    return _changes(weight, up @ down)


def _hadamard(parts: Parts, weight: Tensor) -> bool:
    first = parts["hada_w1_a"] @ parts["hada_w1_b"]
    return _changes(weight, first * (parts["hada_w2_a"] @ parts["hada_w2_b"]))


def _kronecker(parts: Parts, weight: Tensor) -> bool:
    factors = [
        parts[name] if name in parts else parts[name + "_a"] @ parts[name + "_b"]
        for name in KRONECKER
    ]
    return _changes(weight, torch.kron(*factors))


def _generalized(parts: Parts, weight: Tensor) -> bool:
    a1, a2, b1, b2 = (parts[f"{name}.weight"].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    if b1.shape[1] != b2.shape[0] or b1.shape[0] != weight.shape[0]:  # LyCORIS's older order
        a1, a2, b1, b2 = a2, a1, b2, b1
    return (b1 @ b2).shape == weight.shape == (weight @ a1 @ a2).shape


def _orthogonal(parts: Parts, weight: Tensor) -> bool:
    """Blocks (count, size, size) along the rows; of BOFT one such for each of its factors."""
    blocks = parts["oft_blocks"]
    is_boft = blocks.ndim == 4 and "alpha" in parts
    *_, count, size, columns = blocks.shape
    return (blocks.ndim == 3 or is_boft) and size == columns and count * size == weight.shape[0]


def _same_shape(name: str) -> Callable[[Parts, Tensor], bool]:
    return lambda parts, weight: parts[name].shape == weight.shape


RULES: dict[str, Callable[[Parts, Tensor], bool]] = {
    "lora_up.weight": _low_rank,
    "hada_w1_a": _hadamard,
    **dict.fromkeys(("lokr_w1", "lokr_w1_a"), _kronecker),
    "a1.weight": _generalized,
    "oft_blocks": _orthogonal,
    "diff": _same_shape("diff"),
    "set_weight": _same_shape("set_weight"),
    "alpha": lambda parts, weight: parts["alpha"].numel() == 1,
    "dora_scale": lambda parts, weight: parts["dora_scale"].numel() in weight.shape,
    "rescale": lambda parts, weight: parts["rescale"].numel() in (1, weight.shape[0]),
}
