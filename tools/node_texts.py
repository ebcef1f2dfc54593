"""The texts of the pack's nodes, as the editor shows them, and where their translations stand.

English is what /object_info says. A translation stands in `nodeDefs.json` under the node's id, at
an address such as ("inputs", "preset_schedule_mu", "tooltip"): inputs that a choice opens, or that
are added as links are made, are called after it, with underscores for dots.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

Address = tuple[str, ...]
Texts = dict[Address, str]
Specification = list[Any]  # [type] or [type, settings], as JSON has it
Settings = Mapping[str, Any]  # of an input, by name


class Definition(TypedDict):
    """What /object_info says of a node, as far as it is read here."""

    name: str
    display_name: str
    description: str
    input: dict[str, dict[str, Specification]]
    output: list[str]
    output_name: list[str]
    output_tooltips: list[str | None] | None


DYNAMIC_COMBO, AUTOGROW = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3"
OPTION_LINE = re.compile(r"(?P<name>[^:]+: )(?P<meaning>.+)")


def node_texts(definition: Definition) -> Texts:
    """Every text of a node that can be translated, by its address.

    Raises ValueError where two texts have one address, as those of two choices may that open inputs
    of the same name.
    """
    texts: Texts = {}
    for address, text in _all_texts(definition):
        if text and texts.setdefault(address, text) != text:
            raise ValueError(
                f'{definition["name"]} has two texts for {".".join(address)}: "{texts[address]}" '
                f'and "{text}". The editor translates both alike: make them one.'
            )
    return texts


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """(what stays as it is, what is translated) of each line of a text.

    Lines after the first one list choices, "sigmoid: short steps at both ends": names stay.
    """
    first, *rest = text.split("\n")
    yield "", first
    for line in rest:
        option = OPTION_LINE.fullmatch(line)
        yield (option["name"], option["meaning"]) if option else ("", line)


def each_input(
    inputs: Mapping[str, Mapping[str, Specification]],
) -> Iterator[tuple[str, str, Settings]]:
    """(name, type, settings) of each input, without those that a choice opens."""
    for kind in ("required", "optional"):
        for name, (type_name, *settings) in inputs.get(kind, {}).items():
            yield name, type_name, settings[0] if settings else {}


def opened_inputs(settings: Settings) -> Iterator[tuple[str, str, str, Settings]]:
    """(choice, name, type, settings) of each input that a choice of a DynamicCombo opens."""
    for option in settings["options"]:
        for found in each_input(option["inputs"]):
            yield option["key"], *found


def output_names(definition: Definition) -> list[str | None]:
    """None for an output called by its type, which the editor translates itself."""
    names = zip(definition["output_name"], definition["output"], strict=True)
    return [None if name == kind else name for name, kind in names]


def _all_texts(definition: Definition) -> Iterator[tuple[Address, str]]:
    yield ("display_name",), definition["display_name"]
    yield ("description",), definition["description"]
    for name, kind, settings in each_input(definition["input"]):
        yield from _input_texts(name, name, kind, settings)
    for index, output in enumerate(output_names(definition)):
        yield ("outputs", str(index), "name"), output or ""
    for index, tooltip in enumerate(definition["output_tooltips"] or []):
        yield ("outputs", str(index), "tooltip"), tooltip or ""


def _input_texts(
    path: str, name: str, kind: str, settings: Settings
) -> Iterator[tuple[Address, str]]:
    """path: of the input in the graph, such as "preset.schedule"; name: the last part of it."""
    key = path.replace(".", "_")
    yield ("inputs", key, "name"), settings.get("display_name") or name
    yield ("inputs", key, "tooltip"), settings.get("tooltip") or ""
    if kind == DYNAMIC_COMBO:
        for _, opened, inner_kind, inner in opened_inputs(settings):
            yield from _input_texts(f"{path}.{opened}", opened, inner_kind, inner)
    if kind == AUTOGROW:
        yield from _grown_texts(path, settings["template"])


def _grown_texts(path: str, template: Mapping[str, Any]) -> Iterator[tuple[Address, str]]:
    """Tooltips of inputs that are added as links are made; their names are numbered, and stay."""
    for _, _, settings in each_input(template["input"]):
        for name in _grown_names(template):
            key = f"{path}.{name}".replace(".", "_")
            yield ("inputs", key, "tooltip"), settings.get("tooltip") or ""


def _grown_names(template: Mapping[str, Any]) -> list[str]:
    numbered = [f"{template.get('prefix')}{number}" for number in range(template.get("max") or 0)]
    return template.get("names") or numbered
