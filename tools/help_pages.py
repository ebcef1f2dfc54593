"""The reference tables of the help pages, made from the code that they describe.

    python -m tools.help_pages            writes them into the pages of web/docs
    python -m tools.help_pages --check    only says which pages are out of date

The tables of a node's settings are made by tools/settings_tables.py.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

from lumina import picture_sizes
from lumina.rope import scaling
from lumina.schedules import SCHEDULES
from lumina.solvers.fitting import CALLS, EFFORTS
from lumina.solvers.plans import PRESETS
from lumina.solvers.tableaus import TABLEAUS

from .markdown_tables import PAGES, HelpPage, Words, code, outdated_pages, table, write_or_check

SCRIPT = "help_pages.py"


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with the pages' names where --check finds some out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    outdated = outdated_pages(PAGES, SCRIPT, made)
    write_or_check(outdated, SCRIPT, check=parser.parse_args(arguments).check)


def made(page: HelpPage, name: str, words: Words) -> str:
    """A table by its name. Raises ValueError for one that nobody makes."""
    if name not in TABLES:
        raise ValueError(f'There is no table "{name}"; there are: {", ".join(TABLES)}.')
    return TABLES[name](words)


# Tables


def schedules(words: Words) -> str:
    return table(
        header(words, "Schedule", "Formula", "When", "Other names", "Source"),
        (
            (
                code(name),
                code(item.formula),
                words(item.use),
                words(item.other_names),
                words(item.source),
            )
            for name, item in SCHEDULES.items()
        ),
    )


def solver_rules(words: Words) -> str:
    return table(
        header(words, "Solver", "Order", "Model calls a step", "When", "Other names", "Source"),
        (
            (
                code(name),
                str(item.order),
                str(item.calls_per_step),
                words(item.use),
                words(item.other_names),
                words(item.source),
            )
            for name, item in TABLEAUS.items()
        ),
    )


def presets(words: Words) -> str:
    return table(
        header(words, "Preset", "Steps", "Schedule", "Solver", "Model calls"),
        (
            (name, str(plan.steps), code(plan.schedule), code(plan.solver), str(plan.model_calls))
            for name, plan in PRESETS.items()
        ),
    )


def sizes(words: Words) -> str:
    return table(
        header(words, "Size", "Shape", "Megapixels", "Area, of the trained one"),
        (
            (name, words(size.shape), size.megapixels, f"{size.times_trained:.2g}")
            for name, size in (picture_sizes.TRAINED | picture_sizes.BEYOND).items()
        ),
    )


def rope_methods(words: Words) -> str:
    methods = [
        (
            code(name),
            code(item.formula),
            words(item.use),
            words(item.other_names),
            words(item.source),
        )
        for name, item in scaling.METHODS.items()
    ]
    others = scaling.AUTO, scaling.NONE
    return table(
        header(words, "Method", "Formula", "When", "Other names", "Source"),
        [*((code(name), "", words(scaling.CHOICES[name]), "", "") for name in others), *methods],
    )


def efforts(words: Words) -> str:
    calls = int(CALLS.default)
    compared = 3 * (1 + 2) * calls  # the node draws by three others, also at twice as many calls
    return table(
        header(
            words, "effort", "Pictures", "Tries", "Rounds", f"Model calls at {calls} calls, at most"
        ),
        (
            (
                code(name),
                str(effort.sets.total),
                str(effort.tries),
                str(effort.rounds),
                f"{effort.picture_calls([calls], compared):,}",
            )
            for name, effort in EFFORTS.items()
        ),
    )


def header(words: Words, *names: str) -> list[str]:
    return [words(name) for name in names]


TABLES: Mapping[str, Callable[[Words], str]] = {
    "schedules": schedules,
    "solvers": solver_rules,
    "presets": presets,
    "efforts": efforts,
    "sizes": sizes,
    "RoPE methods": rope_methods,
}

if __name__ == "__main__":
    main()
