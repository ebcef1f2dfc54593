"""What the calls in a torch file's pickle give: tensors without their data, and plain values.

Of the calls that torch.load(weights_only=True) allows, those that state dicts consist of.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Named:
    """Something that a pickle would import, by its dotted name; nothing is imported."""

    name: str


class Storage(NamedTuple):
    """The numbers behind one or several tensors. size: in bytes."""

    key: str
    dtype: torch.dtype | None  # None: untyped
    size: int


def storage_of(identity: object) -> Storage:
    """The storage that a pickle refers to by a tuple; TypeError or KeyError for anything else."""
    items = of_type(tuple, identity)
    kind, storage_type, key, numel = (items[i] for i in (0, 1, 2, 4))
    dtype = _STORAGES[of_type(Named, storage_type).name.removeprefix("torch.")]
    if kind != "storage":
        raise TypeError
    return Storage(of_type(str, key), dtype, _size(numel) * (dtype.itemsize if dtype else 1))


def of_type(kind: type[T], value: object) -> T:
    """The value, if it is of this type; otherwise TypeError."""
    if not isinstance(value, kind):
        raise TypeError
    return value


def key_of(value: object) -> object:
    """The value, if a state dict may have it as a key; otherwise TypeError."""
    if not isinstance(value, str | int | float | bool | bytes | tuple | None):
        raise TypeError
    return value


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError("it gives a size that no tensor has")
    return value


def _tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> Tensor:
    dtype = of_type(Storage, storage).dtype
    return _typed_tensor(storage, offset, shape, stride, dtype)


def _tensor_of_dtype(
    storage: object,
    offset: object,
    shape: object,
    stride: object,
    _requires_grad: object,
    _hooks: object,
    dtype: object,
    *_: object,
) -> Tensor:
    name = of_type(Named, dtype).name.removeprefix("torch.")
    return _typed_tensor(storage, offset, shape, stride, _DTYPES[name])


def _typed_tensor(
    storage: object, offset: object, shape: object, stride: object, dtype: torch.dtype | None
) -> Tensor:
    sizes = [_size(n) for n in of_type(tuple, shape)]
    strides = [_size(n) for n in of_type(tuple, stride)]
    last = sum((sizes[i] - 1) * strides[i] for i in range(len(sizes)))
    end = _size(offset) + last + 1 if all(sizes) else 0
    available = of_type(Storage, storage).size // of_type(torch.dtype, dtype).itemsize
    # As many numbers as there are: one that is repeated by its stride costs nothing in the file.
    if max(end, math.prod(sizes)) > available:
        raise ValueError("a tensor in it is larger than its data")
    return torch.empty(sizes, dtype=dtype, device="meta")


def _ordered_dict(pairs: object = None) -> dict[object, object]:
    return {key_of(key): value for key, value in of_type(list, pairs or [])}


def _bytes(text: object, encoding: object) -> bytes:
    if encoding != "latin1":  # as Python writes it; some others take very long
        raise ValueError("it has text in an encoding that torch does not write")
    return of_type(str, text).encode("latin1")


def _first(value: object, *_: object) -> object:
    return value


def _with_attributes(function: object, _type: object, arguments: object, _state: object) -> object:
    return CALLS[of_type(Named, function).name](*of_type(tuple, arguments))


_STORAGES: dict[str, torch.dtype | None] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "storage.UntypedStorage": None,
}
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}
CALLS: dict[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch.nn.parameter.Parameter": _first,
    "torch.Size": _first,
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _first,
    "_codecs.encode": _bytes,
}
# What they give is no weight.
IGNORED_CALLS = frozenset(
    (
        "builtins.set",
        "__builtin__.set",
        "torch.device",
        "torch.serialization._get_layout",
    )
)
