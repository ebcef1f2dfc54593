"""The tables of settings in the help pages, made from the nodes' schemas.

    python -m tools.settings_tables            writes them into the pages of web/docs
    python -m tools.settings_tables --check    only says which pages are out of date

The schemas are those of a running ComfyUI. A page without such a table gets one below the heading
of its inputs.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .locales import live_definitions
from .markdown_tables import (
    PAGES,
    HelpPage,
    Row,
    Words,
    code,
    outdated_pages,
    table,
    write_or_check,
)
from .node_texts import AUTOGROW, DYNAMIC_COMBO, Definition, Settings, each_input, opened_inputs

SCRIPT = "settings_tables.py"
NAME = "settings"
IN_SHORT = "settings in short"  # for a page that lists choices itself
MODEL_FILE = re.compile(r".*\.(safetensors|pth|pt|bin)")
HEADING = re.compile(r"^## (Inputs|输入)\n", re.M)
MOST_CHOICES = 10
HIGHEST = 2**64 - 1


@dataclass
class Setting:
    """One row: an input, and the choices that open it. path: of it in the graph."""

    path: str
    kind: str
    settings: Settings
    choices: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with the pages' names where --check finds some out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    write_or_check(outdated(live_definitions()), SCRIPT, check=check)


def outdated(
    definitions: Mapping[str, Definition], folder: Path = PAGES
) -> Iterator[tuple[Path, str]]:
    """Each page whose table differs from its node, with the text that it should have."""

    def made(page: HelpPage, name: str, words: Words) -> str:
        return settings_table(definitions[page.node], words, in_short=name == IN_SHORT)

    return outdated_pages(folder, SCRIPT, made, with_room)


def with_room(text: str) -> str:
    """A page with the two lines that a table goes between, below the heading of its inputs."""
    if f"<!-- made by tools/{SCRIPT}" in text:
        return text
    lines = f"<!-- made by tools/{SCRIPT}: {NAME} -->\n<!-- end -->"
    return HEADING.sub(rf"\g<0>\n{lines}\n", text, count=1)


def settings_table(definition: Definition, words: Words, *, in_short: bool = False) -> str:
    """All inputs of a node. in_short: without the list of what each choice means."""
    header = [words("Input"), words("What it does")]
    rows = [row(setting, words, in_short=in_short) for setting in settings_of(definition)]
    return table(header, rows)


def settings_of(definition: Definition) -> list[Setting]:
    """The inputs in the order of the node; one that several choices open stands once."""
    found: dict[str, Setting] = {}
    for name, kind, settings in each_input(definition["input"]):
        for setting in _with_opened(Setting(name, kind, settings)):
            known = found.setdefault(setting.path, setting)
            known.choices += [name for name in setting.choices if name not in known.choices]
    return list(found.values())


def _with_opened(setting: Setting) -> Iterator[Setting]:
    yield setting
    if setting.kind == DYNAMIC_COMBO:
        for choice, name, kind, settings in opened_inputs(setting.settings):
            yield from _with_opened(Setting(f"{setting.path}.{name}", kind, settings, [choice]))


def row(setting: Setting, words: Words, *, in_short: bool) -> Row:
    """Two cells: the editor shows the page in a column too narrow for more."""
    given = default(setting, words)
    lines = [called(setting, words), values(setting, words)]
    lines += [words("default {}").format(given)] if given else []
    return "<br>".join(lines), meaning(setting, words, in_short=in_short)


def called(setting: Setting, words: Words) -> str:
    """The name as the editor shows it, and what has to be chosen for it to be there."""
    *parents, name = setting.path.split(".")
    shown = f"**{words(setting.settings.get('display_name') or name)}**"
    if not parents:
        return shown
    return f"{shown} ({words(parents[-1])} {', '.join(map(code, setting.choices))})"


def values(setting: Setting, words: Words) -> str:
    """What may be given: choices, limits, or the type of a link."""
    kind, settings = setting.kind, setting.settings
    if isinstance(kind, list) or "options" in settings:
        return words("files and folders") if is_of_files(setting) else _choices(setting, words)
    if kind in ("INT", "FLOAT"):
        return words("{} to {}").format(number(settings["min"]), number(settings["max"]))
    if kind == AUTOGROW:
        ((_, inner, _),) = each_input(settings["template"]["input"])
        return words("{}, up to {}").format(inner, settings["template"]["max"])
    return {"BOOLEAN": words("on, off"), "STRING": words("text")}.get(kind, kind)


def _choices(setting: Setting, words: Words) -> str:
    options = options_of(setting)
    if len(options) > MOST_CHOICES:
        return f"{code(options[0])} ... {code(options[-1])}"
    return ", ".join(map(code, options))


def is_of_files(setting: Setting) -> bool:
    """Whether the choices are what lies in the user's models folder."""
    options = options_of(setting)
    is_named = "in models/" in setting.settings.get("tooltip", "")
    return is_named or not options or any(map(MODEL_FILE.fullmatch, options))


def options_of(setting: Setting) -> list[str]:
    if isinstance(setting.kind, list):
        return setting.kind
    return [each["key"] if isinstance(each, dict) else each for each in setting.settings["options"]]


def default(setting: Setting, words: Words) -> str:
    """Nothing for a link, and where it depends on the files there are."""
    kind, value = setting.kind, setting.settings.get("default")
    if isinstance(kind, list) or "options" in setting.settings:
        return "" if is_of_files(setting) else code(value or options_of(setting)[0])
    if kind == "BOOLEAN":
        return words("on") if value else words("off")
    if kind in ("INT", "FLOAT"):
        return "" if value is None else number(value)
    return code(value) if value else ""


def number(value: float) -> str:
    """As one would write it: 1e-06, 4, 0.95."""
    return "2^64 - 1" if value == HIGHEST else f"{value:.10g}"


def meaning(setting: Setting, words: Words, *, in_short: bool) -> str:
    tooltip = words(setting.settings.get("tooltip") or "")
    lines = tooltip.split("\n")
    return lines[0] if in_short else "<br>".join(lines)


if __name__ == "__main__":
    main()
