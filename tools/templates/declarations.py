"""What ComfyUI says of its nodes (GET /object_info), in the order in which the editor saves it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC_COMBO}
CORE = "comfy-core"  # what the editor calls ComfyUI itself

Inputs = dict[str, tuple[object, dict[str, Any]]]


@dataclass(frozen=True)
class Input:
    """An input of a node. settings: what the server says beside the type."""

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_widget(self) -> bool:
        return self.kind in WIDGETS and not self.settings.get("forceInput")

    @property
    def initial(self) -> object:
        """What a new node has there."""
        if "default" in self.settings:
            return self.settings["default"]
        if self.kind == DYNAMIC_COMBO:
            return self.settings["options"][0]["key"]
        return "" if self.kind == "STRING" else self.settings["options"][0]


@dataclass(frozen=True)
class Declaration:
    """A node as the server describes it. outputs: (name, type) of each."""

    type: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]
    pack: str

    def inputs_with(self, given: Mapping[str, object]) -> Iterator[Input]:
        """The inputs of a node with these values and links: its own, and those that they bring."""
        return opened(self.inputs, given)


def opened(inputs: Iterable[Input], values: Mapping[str, object]) -> Iterator[Input]:
    """Each input, after a dynamic combo those of its choice, and for a growing one those it is."""
    for item in inputs:
        if item.kind == AUTOGROW:
            yield from grown(item, sum(name.startswith(f"{item.name}.") for name in values))
            continue
        yield item
        if item.kind == DYNAMIC_COMBO:
            key = values[item.name] if item.name in values else item.initial
            yield from opened(chosen(item, key), values)


def grown(item: Input, count: int) -> Iterator[Input]:
    """As many inputs as are linked, and a free one."""
    template = item.settings["template"]
    (one,) = read_inputs(template["input"])
    for index in range(count + 1):
        yield Input(f"{item.name}.{template['prefix']}{index}", one.kind, one.settings)


def chosen(combo: Input, key: object) -> Iterator[Input]:
    """Raises ValueError for a choice that there is not."""
    for option in combo.settings["options"]:
        if option["key"] == key:
            return read_inputs(option["inputs"], prefix=f"{combo.name}.")
    raise ValueError(f'{combo.name} has no choice "{key}".')


def read_inputs(declared: Mapping[str, Inputs], prefix: str = "") -> Iterator[Input]:
    for part in ("required", "optional"):
        for name, (kind, *rest) in declared.get(part, {}).items():
            settings = dict(rest[0]) if rest else {}
            if isinstance(kind, list):
                kind, settings = "COMBO", settings | {"options": kind}
            yield Input(prefix + name, str(kind), settings)


def declaration(info: Mapping[str, Any]) -> Declaration:
    """From one entry of /object_info."""
    where = info["python_module"].split(".")
    return Declaration(
        info["name"],
        tuple(read_inputs(info["input"])),
        tuple(zip(info["output_name"], info["output"], strict=True)),
        where[1] if where[0] == "custom_nodes" else CORE,
    )
