"""The tables of the help pages, made from the code that they describe.

    python -m tools.help_pages            writes them into the pages of web/docs
    python -m tools.help_pages --check    only says which pages are out of date

A table stands between the lines `<!-- made by tools/help_pages.py: NAME -->` and `<!-- end -->`.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lumina import picture_sizes, solvers
from lumina.options import context_drop, guidance, regions, step_cache
from lumina.parameters import Parameter
from lumina.rope import scaling
from lumina.schedules import SCHEDULES
from lumina.solvers.fitting import CALLS, EFFORTS
from lumina.solvers.plans import PRESETS
from lumina.solvers.tableaus import TABLEAUS

PAGES = Path(__file__).resolve().parents[1] / "web" / "docs"
MARKED = re.compile(r"(<!-- made by tools/help_pages\.py: (.+?) -->\n).*?(<!-- end -->)", re.S)

Row = Sequence[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with the pages' names where --check finds some out of date."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    outdated = list(outdated_pages(PAGES))
    if parser.parse_args(arguments).check:
        if outdated:
            names = ", ".join(page.name for page, _ in outdated)
            raise SystemExit(f"Out of date: {names}. Run: python -m tools.help_pages")
        return
    for page, text in outdated:
        page.write_text(text, "utf-8")
        print(f"{page.name} is up to date again")


def outdated_pages(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each page that differs from what the code says now, with the text that it should have."""
    for page in sorted(folder.rglob("*.md")):
        text = page.read_text("utf-8")
        if (made := with_tables(text)) != text:
            yield page, made


def with_tables(text: str) -> str:
    """A page with all its tables made anew. Raises ValueError for a table that nobody makes."""

    def made(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        if name not in TABLES:
            raise ValueError(f'There is no table "{name}"; there are: {", ".join(TABLES)}.')
        return f"{start}{TABLES[name]()}{end}"

    return MARKED.sub(made, text)


# Tables


def schedules() -> str:
    return table(
        ("Schedule", "Formula", "When", "Other names", "Source"),
        (
            (code(name), code(item.formula), item.use, item.other_names, item.source)
            for name, item in SCHEDULES.items()
        ),
    )


def solver_rules() -> str:
    return table(
        ("Solver", "Order", "Model calls a step", "When", "Other names", "Source"),
        (
            (
                code(name),
                str(item.order),
                str(item.calls_per_step),
                item.use,
                item.other_names,
                item.source,
            )
            for name, item in TABLEAUS.items()
        ),
    )


def presets() -> str:
    return table(
        ("Preset", "Steps", "Schedule", "Solver", "Model calls"),
        (
            (name, str(plan.steps), code(plan.schedule), code(plan.solver), str(plan.model_calls))
            for name, plan in PRESETS.items()
        ),
    )


def sizes() -> str:
    return table(
        ("Size", "Shape", "Megapixels", "Area, of the trained one"),
        (
            (name, size.shape, size.megapixels, f"{size.times_trained:.2g}")
            for name, size in (picture_sizes.TRAINED | picture_sizes.BEYOND).items()
        ),
    )


def rope_methods() -> str:
    methods = [
        (code(name), code(item.formula), item.use, item.other_names, item.source)
        for name, item in scaling.METHODS.items()
    ]
    others = scaling.AUTO, scaling.NONE
    return table(
        ("Method", "Formula", "When", "Other names", "Source"),
        [*((code(name), "", scaling.CHOICES[name], "", "") for name in others), *methods],
    )


def rope_settings() -> str:
    settings = {
        name: {
            scaling.short_name(name, setting): scaling.PARAMETERS[setting]
            for setting in method.settings
            if setting in scaling.PARAMETERS
        }
        for name, method in scaling.METHODS.items()
    }
    return parameters_of_each("Method", settings)


def parameters_of_each(kind: str, choices: Mapping[str, Mapping[str, Parameter]]) -> str:
    """One row for each parameter, with all the choices that have it."""
    owners: dict[tuple[str, Parameter], list[str]] = {}
    for choice, parameters in choices.items():
        for item in parameters.items():
            owners.setdefault(item, []).append(code(choice))
    return table(
        (kind, *PARAMETER_HEADER),
        ((", ".join(names), *parameter_row(*item)) for item, names in owners.items()),
    )


PARAMETER_HEADER = ("Input", "Default", "Range", "Meaning")


def parameter_row(name: str, item: Parameter) -> Row:
    return f"**{name}**", f"{item.default:g}", f"{item.low:g} to {item.high:g}", item.meaning


def parameter_table(parameters: Mapping[str, Parameter]) -> str:
    return table(PARAMETER_HEADER, (parameter_row(*item) for item in parameters.items()))


def table(header: Row, rows: Iterable[Row]) -> str:
    """A Markdown table."""
    cells = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def code(text: str) -> str:
    return f"`{text}`"


def efforts() -> str:
    calls = int(CALLS.default)
    return table(
        ("effort", "Pictures", "Tries", f"Model calls at {calls} calls, at most"),
        (
            (
                code(name),
                str(effort.sets.total),
                str(effort.tries),
                f"{effort.picture_calls([calls]):,}",
            )
            for name, effort in EFFORTS.items()
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    "schedules": schedules,
    "schedule parameters": lambda: parameters_of_each(
        "Schedule", {name: item.parameters for name, item in SCHEDULES.items()}
    ),
    "solvers": solver_rules,
    "solver parameters": lambda: parameters_of_each("Solver", solvers.PARAMETERS),
    "presets": presets,
    "efforts": efforts,
    "sizes": sizes,
    "RoPE methods": rope_methods,
    "RoPE settings": rope_settings,
    "guidance": lambda: parameter_table(guidance.PARAMETERS),
    "context drop": lambda: parameter_table(context_drop.PARAMETERS),
    "region": lambda: parameter_table({**regions.BOX, **regions.PARAMETERS}),
    "grid": lambda: parameter_table({**regions.GRID, "feather": regions.FEATHER}),
    "step cache": lambda: parameter_table(step_cache.PARAMETERS),
}

if __name__ == "__main__":
    main()
