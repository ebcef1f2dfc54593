"""The measured results as pictures: demo/results/*.svg, for docs/measurements.md.

    python -m demo.evaluation.plots

sampling.svg, resolution.svg and context-drop.svg are drawn from what measure.py wrote beside them,
fitted.svg from what fitted.py wrote, context-drop-time.svg from
benchmarks/results/context_drop.json. What has not been measured is named
and left out. The same numbers give the same bytes. Needs matplotlib, which
`python3 -m tools.environment development` installs.
"""

import json
import math
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
    StrMethodFormatter,
)

from lumina.checkpoints.convert.disk import atomic_write
from lumina.options.context_drop import ORDERS
from lumina.schedules import SCHEDULES
from tools.environment import ROOT

RESULTS = ROOT / "demo" / "results"
TIMES = ROOT / "benchmarks" / "results" / "context_drop.json"
Rows = list[dict]

# Okabe and Ito's colors, which stay apart for color-blind eyes.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
INK, GRAY, PALE = "#333333", "#8A8A8A", "#E4E4E4"
STYLE = {
    "axes.edgecolor": GRAY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.12,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 9,
    "grid.color": PALE,
    "legend.frameon": False,
    "savefig.facecolor": "white",  # readable on a dark page as well
    "svg.fonttype": "none",  # words stay words: searchable, and a smaller file
    "svg.hashsalt": "lumina-next",  # the same names inside the file every time
    "text.color": INK,
    "xtick.bottom": False,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "ytick.left": False,
}

LOOKS = tuple(
    {"color": color, "marker": marker, "markersize": 5}
    for color, marker in zip((BLUE, ORANGE, GREEN, PURPLE), "os^D", strict=True)
)
SCHEDULE_LOOKS = dict(zip(SCHEDULES, cycle(LOOKS), strict=False))
ORDER_LOOKS = dict(zip(ORDERS, LOOKS, strict=False))
# A ring, and a disc small enough to show inside it.
ATTENTION_LOOKS = {
    False: {"color": ORANGE, "markersize": 7, "fillstyle": "none"},
    True: {"color": BLUE, "markersize": 4.5, "markeredgewidth": 0},
}
DASHED = {"color": GRAY, "linestyle": "--", "linewidth": 1, "zorder": 1.8}
HOST = "ComfyUI's "
SHARES = {
    "attributes": "Attributes right",
    "in_place": "Everything in its place",
    "exact": "Whole picture right",
}
SHARPNESS = "Sharpness of edges\n(brightness ranges per pixel)"


def apart(rows: Rows, parse: Callable[[str], tuple | None]) -> tuple[dict | None, list]:
    """The row that others are compared with, whose setting is None, and the others: (setting, row).

    parse: what a row's text sets.
    """
    settings = [(parse(row["setting"]), row) for row in rows]
    usual = next((row for setting, row in settings if setting is None), None)
    return usual, [pair for pair in settings if pair[0] is not None]


def sampling(figure: Figure, rows: Rows) -> None:
    """Error against model calls: a panel for each solver, a line for each schedule."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in rows:
        calls, solver, schedule = sampling_setting(row["setting"])
        lines.setdefault((solver, schedule), []).append((calls, row["error"]))
    solvers = list(dict.fromkeys(solver for solver, _ in lines if not solver.startswith(HOST)))
    columns = (len(solvers) + 2) // 2  # one more, for the legend
    figure.set_size_inches(2.9 * columns, 5.6)
    panels = figure.subplots(2, columns, sharex=True, sharey=True).flat
    for index, (solver, axes) in enumerate(zip(solvers, panels, strict=False)):
        axes.set_title(solver)
        axes.tick_params(labelbottom=index + columns >= len(solvers))  # none below it
        for (of, schedule), points in lines.items():
            if of == solver:
                axes.plot(*zip(*points, strict=True), **SCHEDULE_LOOKS[schedule])
            elif of.startswith(HOST):
                axes.plot(*zip(*points, strict=True), **host_look(of))
    calls = sorted({sampling_setting(row["setting"])[0] for row in rows})
    log_axes(panels[0], calls)
    for axes in panels[len(solvers) :]:
        axes.set_axis_off()
    panels[-1].legend(handles=list(sampling_legend(lines)), loc="center left", title="Schedule")
    figure.supxlabel("Model calls for a picture")
    figure.supylabel("Distance from the exact latents\n(root mean square, lower is better)")


def sampling_setting(text: str) -> tuple[int, str, str]:
    """Model calls, solver and schedule of "10 calls, euler, sigmoid"."""
    calls, solver, schedule = text.split(", ")
    return int(calls.split()[0]), solver, schedule


def sampling_legend(lines: dict[tuple[str, str], list]) -> Iterator[Line2D]:
    """Our schedules by color, then ComfyUI's own samplers, which stand in every panel."""
    schedules = dict.fromkeys(s for solver, s in lines if not solver.startswith(HOST))
    for schedule in schedules:
        yield Line2D([], [], label=schedule, **SCHEDULE_LOOKS[schedule])
    for solver, schedule in lines:
        if solver.startswith(HOST):
            yield Line2D([], [], label=f"{solver},\n{schedule}", **host_look(solver))


def host_look(solver: str) -> dict:
    return DASHED if solver == HOST + "euler" else {**DASHED, "linestyle": ":"}


def log_axes(axes: Axes, calls: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(calls, map(str, calls))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())


def resolution(figure: Figure, rows: Rows) -> None:
    """Shares and sharpness of each method at each size, without and with proportional attention."""
    trained, measured = apart(rows, resolution_setting)
    sizes = sorted({times for (times, _, _), _ in measured})
    methods = list(dict.fromkeys(method for (_, _, method), _ in measured))
    columns = {**{key: SHARES[key] for key in SHARES if key in rows[0]}, "sharpness": SHARPNESS}
    figure.set_size_inches(2.6 * len(columns) + 1, (0.24 * len(methods) + 1) * len(sizes) + 0.5)
    panels = figure.subplots(len(sizes), len(columns), sharey=True, squeeze=False)
    for line, times in zip(panels, sizes, strict=True):
        for (key, name), axes in zip(columns.items(), line, strict=True):
            for proportional, look in ATTENTION_LOOKS.items():
                chosen = [(m, row) for (*of, m), row in measured if of == [times, proportional]]
                y = [methods.index(method) for method, _ in chosen]
                axes.plot([row[key] for _, row in chosen], y, "o", **look)
            if key in SHARES:
                whole_range(axes, trained and trained[key])
            else:  # compares pictures of one size only, so each size has its own range
                axes.xaxis.set_major_locator(MaxNLocator(3))
            name_rows(axes, methods)
            if times == sizes[-1]:
                axes.set_xlabel(name)
        line[0].set_title(f"{times} times the trained side", loc="left")
    figure.legend(handles=list(resolution_legend(trained)), loc="outside upper right", ncols=3)


def resolution_setting(text: str) -> tuple[int, bool, str] | None:
    """Size, proportional attention, method of "2x, ntk, proportional"; None at the trained size."""
    times, *rest = text.split(", ")
    return (int(times.rstrip("x")), "proportional" in rest, rest[0]) if rest else None


def whole_range(axes: Axes, usual: float | None) -> None:
    """From nothing to all, with the usual share marked."""
    axes.set_xlim(-0.04, 1.04)
    axes.set_xticks([0, 0.5, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    if usual is not None:
        axes.axvline(usual, **DASHED)


def name_rows(axes: Axes, names: list[str]) -> None:
    """Rows from the top, each with its name and a line to follow."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    # One broken line instead of a grid: a file smaller by a fifth.
    x, y = zip(*((x, y) for y in range(len(names)) for x in (0, 1, math.nan)), strict=True)
    across = axes.get_yaxis_transform()
    axes.plot(x, y, color=PALE, linewidth=0.8, zorder=0.5, transform=across)


def resolution_legend(trained: dict | None) -> Iterator[Line2D]:
    for proportional, look in ATTENTION_LOOKS.items():
        label = "proportional attention" if proportional else "attention as trained"
        yield Line2D([], [], linestyle="none", marker="o", label=label, **look)
    if trained is not None:
        yield Line2D([], [], **DASHED, label="at the trained size")


def context_drop(figure: Figure, rows: Rows) -> None:
    """Shares by factor and range, a mark for each order of layers; dashed: without context drop."""
    usual, measured = apart(rows, context_drop_setting)
    cells = list(dict.fromkeys(cell for (_, cell), _ in measured))
    columns = {key: SHARES[key] for key in SHARES if key in rows[0]}
    figure.set_size_inches(2.6 * len(columns) + 1, 0.36 * len(cells) + 1.6)
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for (key, name), axes in zip(columns.items(), panels, strict=True):
        for offset, (order, look) in enumerate(ORDER_LOOKS.items(), start=-1):
            chosen = [(cell, row) for (of, cell), row in measured if of == order]
            y = [cells.index(cell) + 0.2 * offset for cell, _ in chosen]
            axes.plot([row[key] for _, row in chosen], y, linestyle="none", **look)
        if usual is not None:
            axes.axvline(usual[key], **DASHED)
        name_rows(axes, cells)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel(name)
    figure.legend(handles=list(context_drop_legend(usual)), loc="outside upper center", ncols=4)


def context_drop_setting(text: str) -> tuple[str, str] | None:
    """Order, and cells with range, of "2 x 2, until 0.5, first"; None for "none"."""
    cells, _, order = text.rpartition(", ")
    return (order, cells) if cells else None


def context_drop_legend(usual: dict | None) -> Iterator[Line2D]:
    for order, look in ORDER_LOOKS.items():
        label = "layers spread evenly" if order == "spread" else f"{order} layers drop longest"
        yield Line2D([], [], linestyle="none", label=label, **look)
    if usual is not None:
        yield Line2D([], [], **DASHED, label="no context drop")


def context_drop_time(figure: Figure, rows: Rows) -> None:
    """Time over that without context drop, against the factor: a step, and a whole run."""
    sizes = sorted({row["size_px"] for row in rows})
    figure.set_size_inches(8.2, 3.3)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for size_px, look in zip(sizes, cycle(LOOKS), strict=False):
        of_size = sorted((r for r in rows if r["size_px"] == size_px), key=lambda r: r["factor"])
        cells = [f"{r} x {r}" if r > 1 else "none" for r in (row["factor"] for row in of_size)]
        step = [row["step"] for row in of_size]
        middle = [ratio["median"] for ratio in step]
        reach = [
            [ratio["median"] - ratio["low"] for ratio in step],
            [ratio["high"] - ratio["median"] for ratio in step],
        ]
        panels[0].errorbar(cells, middle, reach, **look, capsize=2)
        panels[1].plot(cells, [row["run"] for row in of_size], **look, label=f"{size_px} px")
    panels[0].set_title("A step, every layer dropping")
    panels[1].set_title("20 steps, default range (computed)")
    panels[0].set_ylabel("Time, without context drop = 100%")
    panels[0].set_ylim(0, None)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1))
    figure.supxlabel("Tokens averaged into one")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside right center")


def fitted(figure: Figure, rows: Rows) -> None:
    """Mean and worst error against model calls, a line for each solver; dashed: many steps."""
    many = max(row["calls"] for row in rows)
    usual = next(row for row in rows if row["calls"] == many)
    rest = [row for row in rows if row is not usual]
    figure.set_size_inches(8.2, 3.4)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    calls = sorted({row["calls"] for row in rest})
    looks = dict(zip(dict.fromkeys(row["setting"] for row in rest), fitted_looks(), strict=False))
    for axes, key, title in zip(panels, ("mean", "worst"), ("Mean", "Worst picture"), strict=True):
        for name, look in looks.items():
            points = [(row["calls"], row["errors"][key]) for row in rest if row["setting"] == name]
            axes.plot(*zip(*points, strict=True), **look, label=name)
        label = f"{usual['setting']}, {many} calls"
        axes.axhline(usual["errors"][key], **DASHED, label=label)
        axes.set_title(title)
        log_axes(axes, calls)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    figure.supxlabel("Model calls for a picture")
    figure.supylabel("Distance from the exact latents")


def fitted_looks() -> Iterator[dict]:
    """First the one that stands out."""
    yield {**LOOKS[1], "linewidth": 2.2, "zorder": 3}
    for style in ("-", ":"):
        for look in (LOOKS[0], *LOOKS[2:]):
            yield {**look, "linestyle": style}


PLOTS: dict[str, tuple[Path, Callable[[Figure, Rows], None]]] = {
    "sampling": (RESULTS / "sampling.json", sampling),
    "resolution": (RESULTS / "resolution.json", resolution),
    "context-drop": (RESULTS / "context-drop.json", context_drop),
    "fitted": (RESULTS / "fitted.json", fitted),
    "context-drop-time": (TIMES, context_drop_time),
}


def draw(plot: Callable[[Figure, Rows], None], rows: Rows, path: Path) -> None:
    """Write the plot of the rows as SVG, without a date: it changes with the numbers only."""
    with matplotlib.rc_context(STYLE):
        figure = Figure()
        plot(figure, rows)
        with atomic_write(path) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})


def main() -> None:
    for name, (source, plot) in PLOTS.items():
        if not source.exists():
            print(f"{source.relative_to(ROOT)} is not there: {name}.svg is not drawn")
            continue
        path = RESULTS / f"{name}.svg"
        draw(plot, json.loads(source.read_text())["rows"], path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
