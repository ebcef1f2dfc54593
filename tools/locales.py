"""The nodes in other languages: locales/ for the editor, made from tools/translations/.

    python -m tools.locales             writes locales/, and prints what is missing, to be filled in
    python -m tools.locales --add FILE  takes in such a text with the translations filled in
    python -m tools.locales --prune     drops translations of texts that the nodes no longer have
    python -m tools.locales --check     writes nothing; fails where something is missing or stale

English stays in the nodes' schemas, from where it is read in a running ComfyUI. A translation is
found by its English text, line by line: a changed text is missing, and the old one stale. A text
that several nodes have stands under the first of them.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from .comfyui import Host
from .environment import ROOT
from .node_texts import Address, Definition, Texts, node_texts, pieces

LANGUAGES = ("zh", "zh-TW", "ja", "ko", "fr", "ru", "es", "ar")
NODE_PREFIX = "LuminaNext"
TRANSLATIONS = ROOT / "tools" / "translations"
LOCALES = ROOT / "locales"
# Of these the editor makes messages, in which such characters have a meaning of their own.
MESSAGES = ("display_name", "description", "name")
SPECIAL = re.compile(r"[{}@|$%]")

English = dict[str, dict[str, None]]  # node id -> its texts that no node before it has


@dataclass
class Language:
    """What one language lacks or has too much. translated: nodeDefs.json as it must be."""

    translated: dict[str, object] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with what is wrong where --check finds something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--prune", action="store_true", help="drop what is stale")
    parser.add_argument("--add", type=Path, help="a JSON file: language, then English: translation")
    options = parser.parse_args(arguments)
    definitions = live_definitions()
    if options.check:
        if found := problems(definitions):
            raise SystemExit("\n".join([*found, "Run: python -m tools.locales"]))
        return
    if options.add:
        add(json.loads(options.add.read_text("utf-8")))
    print(json.dumps(write(definitions, prune=options.prune), indent=2, ensure_ascii=False))


def live_definitions() -> dict[str, Definition]:
    """The nodes' entries in /object_info, from a ComfyUI that is started for it."""
    with tempfile.TemporaryDirectory() as base, Host(Path(base), arguments=["--cpu"]) as host:
        definitions = host.get("/object_info")
    ours = sorted(name for name in definitions if name.startswith(NODE_PREFIX))
    return {name: cast(Definition, definitions[name]) for name in ours}


def problems(definitions: Mapping[str, Definition]) -> list[str]:
    """What is missing, stale or not written yet, in words."""
    found: list[str] = []
    for code in LANGUAGES:
        language = translate(definitions, load(code))
        found += [f"{code}: {text!r} is missing" for text in _texts(language.missing)]
        found += [f"{code}: {text!r} is stale" for text in language.stale]
        if _read(_locale(code)) != language.translated:
            found.append(f"{code}: locales/{code}/nodeDefs.json is out of date")
    return found


def write(definitions: Mapping[str, Definition], *, prune: bool = False) -> dict[str, object]:
    """Writes locales/ and sorts tools/translations/. What is missing and stale, by language."""
    report: dict[str, object] = {}
    for code in LANGUAGES:
        known = load(code)
        language = translate(definitions, known)
        _write(_locale(code), language.translated)
        stale = {} if prune else language.stale
        groups = sorted_by_node(definitions, known)
        _write(TRANSLATIONS / f"{code}.json", groups | ({"stale": stale} if stale else {}))
        if language.missing:
            report[code] = language.missing
        if stale:
            report[f"{code}, stale"] = stale
    return report


def add(filled: Mapping[str, Mapping[str, object]]) -> None:
    """Takes in translations, each under its English text; groups by node may be there or not.

    `write` sorts them.
    """
    for code, translations in filled.items():
        if code in LANGUAGES:
            _write(TRANSLATIONS / f"{code}.json", {"added": load(code) | flat(translations)})


def translate(definitions: Mapping[str, Definition], known: Mapping[str, str]) -> Language:
    """The nodes' texts in one language. known: English text to translation."""
    language = Language(stale=dict(known))
    for node, texts in english(definitions).items():
        missing = {text: "" for text in texts if not known.get(text)}
        if missing:
            language.missing[node] = missing
        for text in texts:
            language.stale.pop(text, None)
    for node, definition in definitions.items():
        language.translated[node] = nested(
            {
                address: as_message(address, translation)
                for address, text in node_texts(definition).items()
                if (translation := in_language(text, known))
            }
        )
    return language


def in_language(text: str, known: Mapping[str, str]) -> str:
    """A text translated line by line; "" if a line of it is not known."""
    lines = [(stays, known.get(line)) for stays, line in pieces(text)]
    return "\n".join(f"{stays}{line}" for stays, line in lines) if all(x for _, x in lines) else ""


def as_message(address: Address, text: str) -> str:
    """The text with the characters escaped that the editor would take for placeholders."""
    if address[-1] not in MESSAGES:
        return text
    return SPECIAL.sub(lambda match: f"{{'{match[0]}'}}", text)


def english(definitions: Mapping[str, Definition]) -> English:
    """The lines to be translated, each under the first node that has it."""
    seen: set[str] = set()
    found: English = {}
    for node, definition in definitions.items():
        lines = {line for text in node_texts(definition).values() for _, line in pieces(text)}
        ordered = _in_order(node_texts(definition))
        found[node] = {line: None for line in ordered if line in lines - seen}
        seen |= lines
    return found


def _in_order(texts: Texts) -> Iterator[str]:
    for text in texts.values():
        yield from (line for _, line in pieces(text))


def sorted_by_node(
    definitions: Mapping[str, Definition], known: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Translations that the nodes use, in the form of the files in tools/translations."""
    groups = {
        node: {line: known[line] for line in lines if known.get(line)}
        for node, lines in english(definitions).items()
    }
    return {node: lines for node, lines in groups.items() if lines}


def load(code: str) -> dict[str, str]:
    """English text to translation, in one language."""
    return flat(_read(TRANSLATIONS / f"{code}.json"))


def flat(groups: Mapping[str, object]) -> dict[str, str]:
    """The translations of all groups together."""
    found: dict[str, str] = {}
    for key, value in groups.items():
        found |= value if isinstance(value, dict) else {key: str(value)}
    return found


def nested(texts: Texts) -> dict[str, object]:
    """{("inputs", "cfg", "name"): "cfg"} as {"inputs": {"cfg": {"name": "cfg"}}}."""
    tree: dict[str, object] = {}
    for address, text in texts.items():
        branch = tree
        for part in address[:-1]:
            branch = branch.setdefault(part, {})  # type: ignore[assignment]  # never a text
        branch[address[-1]] = text
    return tree


def _locale(code: str) -> Path:
    return LOCALES / code / "nodeDefs.json"


def _texts(groups: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for group in groups.values():
        yield from group


def _read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
