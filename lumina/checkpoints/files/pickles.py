"""Reads what the pickle in a torch file describes, without running or importing anything.

Understands the operations that torch writes (protocol 2) and torch.load(weights_only=True) allows.
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from .. import limits
from ..wording import quoted
from .pickled_calls import CALLS, IGNORED_CALLS, Named, Storage, key_of, of_type, storage_of

Operations = Iterable[tuple[pickletools.OpcodeInfo, object, int | None]]


class Description(NamedTuple):
    """What a pickle describes: tensors in `value` are on device "meta", `storages` by their key."""

    value: object
    storages: Mapping[str, Storage]


def describe(operations: Operations) -> Description:
    """What a pickle describes. Raises ValueError saying what is wrong with it, without the file."""
    machine = _Machine()
    try:
        value = machine.run(operations)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError("its list of tensors is damaged") from error
    return Description(value, machine.storages)


class _Machine:
    """The stack machine that a pickle is a program for, with plain values on its stack."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[object, object] = {}
        self.storages: dict[str, Storage] = {}
        self.tuple_sizes: dict[int, int] = {}  # by the identity of tuples that hold tuples
        self.tuples: list[tuple[object, ...]] = []  # kept, so that no identity is used twice

    def run(self, operations: Operations) -> object:
        for opcode, argument, _ in operations:
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _PUSHES:
                self.stack.append(_PUSHES[name]())
            elif name in _LITERALS:
                self.stack.append(argument)
            elif name in _STEPS:
                _STEPS[name](self, argument)
            else:
                raise ValueError(f"it has the operation {name}, which torch does not write")
        raise ValueError("it ends in the middle of its list of tensors")

    def mark(self, _: object) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[object]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def put(self, index: object) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: object) -> None:
        self.stack.append(self.memo[index])

    def name(self, argument: object) -> None:
        self.stack.append(Named(str(argument).replace(" ", ".")))

    def append(self, _: object) -> None:
        item = self.stack.pop()
        of_type(list, self.stack[-1]).append(item)

    def extend(self, _: object) -> None:
        items = self.pop_mark()
        of_type(list, self.stack[-1]).extend(items)

    def set_item(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        of_type(dict, self.stack[-1])[key_of(key)] = value

    def set_items(self, _: object) -> None:
        items = self.pop_mark()
        target = of_type(dict, self.stack[-1])
        for i in range(0, len(items), 2):
            target[key_of(items[i])] = items[i + 1]

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack.pop() for _ in range(count))
        self._push_tuple(items[::-1])

    def tuple_of_marked(self, _: object) -> None:
        self._push_tuple(tuple(self.pop_mark()))

    def _push_tuple(self, items: tuple[object, ...]) -> None:
        # Python takes a tuple's hash from all its values at every use. One that holds another
        # twice, and so on, would take longer than anyone can wait.
        size = len(items) + sum(self.tuple_sizes.get(id(i), 0) for i in items if type(i) is tuple)
        if size > limits.TUPLE:
            raise ValueError(f"it has a tuple of more than {limits.TUPLE:,} values")
        self.tuple_sizes[id(items)] = size
        self.tuples.append(items)
        self.stack.append(items)

    def persistent(self, _: object) -> None:
        storage = storage_of(self.stack.pop())
        if self.storages.setdefault(storage.key, storage).size != storage.size:
            raise ValueError("it gives two sizes for the same numbers")
        self.stack.append(storage)

    def call(self, _: object) -> None:
        arguments = of_type(tuple, self.stack.pop())
        name = of_type(Named, self.stack.pop()).name
        if name in CALLS:
            self.stack.append(CALLS[name](*arguments))
        elif name in IGNORED_CALLS:
            self.stack.append(Named(name))  # what it gives is no weight, and not needed
        else:
            raise ValueError(
                f"it calls {quoted(name)}, which weights do not need and which may run code when "
                "opened"
            )

    def build(self, _: object) -> None:
        self.stack.pop()  # attributes, such as the "_metadata" of a state dict
        of_type(dict, self.stack[-1])


_LITERALS = frozenset(
    ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1")
)
_PUSHES: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_STEPS: dict[str, Callable[[_Machine, object], None]] = {
    "PROTO": lambda machine, version: None,
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "TUPLE": _Machine.tuple_of_marked,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
