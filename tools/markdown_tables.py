"""Tables that scripts write into the help pages, in the language of the page.

A table stands between the lines `<!-- made by tools/SCRIPT: NAME -->` and `<!-- end -->`. The page
of a node is `NODE.md`, in another language `NODE/LANGUAGE.md`, as ComfyUI's editor looks for it.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .environment import ROOT
from .locales import in_language, load

PAGES = ROOT / "web" / "docs"
MARKED = re.compile(r"(<!-- made by tools/(\w+\.py): (.+?) -->\n).*?(<!-- end -->)", re.S)
WORDS = ROOT / "tools" / "translations" / "pages"

Row = Sequence[str]


class Words:
    """The texts of tables in one language; None is English. missing: what it was asked in vain."""

    def __init__(self, language: str | None) -> None:
        self.language = language
        self.missing: dict[str, str] = {}
        self._known: dict[str, str] = {}
        if language:
            path = WORDS / f"{language}.json"
            only_here = json.loads(path.read_text("utf-8")) if path.exists() else {}
            self._known = load(language) | only_here

    def __call__(self, text: str) -> str:
        """The text translated, line by line; in English where there is no translation."""
        if not text or not self.language:
            return text
        if not (translation := in_language(text, self._known)):
            self.missing[text] = ""
        return translation or text


@dataclass(frozen=True)
class HelpPage:
    """A page of web/docs. language: None for English."""

    path: Path
    node: str
    language: str | None


def help_pages(folder: Path) -> list[HelpPage]:
    """All pages of a folder, by node and language."""
    english = [HelpPage(path, path.stem, None) for path in folder.glob("*.md")]
    others = [HelpPage(path, path.parent.name, path.stem) for path in folder.glob("*/*.md")]
    return sorted([*english, *others], key=lambda page: page.path)


def outdated_pages(
    folder: Path,
    script: str,
    make: Callable[[HelpPage, str, Words], str],
    prepare: Callable[[str], str] = str,
) -> Iterator[tuple[Path, str]]:
    """Each page whose tables by `script` differ, with the text that it should have.

    make(page, name, words) is a table; prepare(text) a page with room for it. Raises ValueError for
    texts that have no translation.
    """
    missing: dict[str, dict[str, str]] = {}
    for page in help_pages(folder):
        text = page.path.read_text("utf-8")
        words = Words(page.language)
        made = with_tables(prepare(text), script, partial(_call, make, page, words))
        if made != text:
            yield page.path, made
        if words.missing:
            missing.setdefault(str(page.language), {}).update(words.missing)
    if missing:
        raise ValueError(
            "These texts have no translation. Fill them into tools/translations/pages:\n"
            + json.dumps(missing, indent=2, ensure_ascii=False)
        )


def _call(
    make: Callable[[HelpPage, str, Words], str], page: HelpPage, words: Words, name: str
) -> str:
    return make(page, name, words)


def with_tables(text: str, script: str, make: Callable[[str], str]) -> str:
    """A page with all tables by `script` made anew."""

    def made(match: re.Match[str]) -> str:
        start, maker, name, end = match.groups()
        return f"{start}{make(name)}{end}" if maker == script else match[0]

    return MARKED.sub(made, text)


def write_or_check(outdated: Iterable[tuple[Path, str]], script: str, *, check: bool) -> None:
    """Writes the pages; exits with their names instead where `check` is on and there are some."""
    pages = list(outdated)
    if check and pages:
        names = ", ".join("/".join(page.parts[-2:]) for page, _ in pages)
        raise SystemExit(f"Out of date: {names}. Run: python -m tools.{script.removesuffix('.py')}")
    for page, text in pages:
        page.write_text(text, "utf-8")
        print(f"{'/'.join(page.parts[-2:])} is up to date again")


def table(header: Row, rows: Iterable[Row]) -> str:
    """A Markdown table."""
    cells = [header, ["---"] * len(header), *rows]
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in cells)
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def code(text: str) -> str:
    return f"`{text}`"
