"""Plots of small made-up results: they draw what is there, and the same numbers the same way."""

import importlib
import json

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def plots(tmp_path, monkeypatch):
    plots = importlib.import_module("demo.evaluation.plots")
    sources = {name: tmp_path / f"{name}.json" for name in plots.PLOTS}
    moved = {name: (sources[name], plot) for name, (_, plot) in plots.PLOTS.items()}
    monkeypatch.setattr(plots, "PLOTS", moved)
    monkeypatch.setattr(plots, "RESULTS", tmp_path)
    monkeypatch.setattr(plots, "ROOT", tmp_path)
    return plots


def row(setting, share=0.5, **more):
    shares = {"attributes": share, "exact": share / 2, "in_place": share / 3}
    return {"setting": setting, **shares, "sharpness": share / 4, "error": share, **more}


SAMPLING = [
    row(f"{calls} calls, {solver}, {schedule}", 1 / calls)
    for calls in (10, 20)
    for solver, schedule in [
        ("euler", "sigmoid"),
        ("euler", "uniform"),
        ("rk4", "sigmoid"),
        ("ComfyUI's euler", "normal"),
        ("ComfyUI's dpmpp_2m", "simple"),
    ]
]
RESOLUTION = [row("1x", 0.9)] + [
    row(f"{times}x, {method}{proportional}")
    for times in (2, 3)
    for method in ("none", "watershed 0.5")
    for proportional in ("", ", proportional")
]
CONTEXT_DROP = [row("none", 0.9)] + [
    row(f"{r} x {r}, until {until:g}, {order}")
    for r in (2, 4)
    for until in (0.5, 1.0)
    for order in ("first", "last", "spread")
]
TIMES = [
    {
        "size_px": size_px,
        "factor": factor,
        "step": {"median": 1 / factor, "low": 0.9 / factor, "high": 1.1 / factor},
        "run": 1 / factor,
    }
    for size_px in (1024, 2048, 4096)
    for factor in (1, 2, 4)
]
FITTED = [
    {"setting": setting, "calls": calls, "errors": {"mean": 1 / calls, "worst": 3 / calls}}
    for setting, calls in [
        ("euler, uniform", 30),
        *((name, calls) for calls in (5, 10) for name in ("fitted", "euler, uniform")),
        ("midpoint, uniform", 10),
    ]
]
ROWS = {
    "fitted": FITTED,
    "sampling": SAMPLING,
    "resolution": RESOLUTION,
    "context-drop": CONTEXT_DROP,
    "context-drop-time": TIMES,
}


def test_same_numbers_give_same_bytes(plots, tmp_path):
    files = tmp_path / "first.svg", tmp_path / "second.svg"
    for file in files:
        plots.draw(plots.PLOTS["context-drop"][1], CONTEXT_DROP, file)
    first, second = (file.read_bytes() for file in files)
    assert first == second


@pytest.mark.parametrize(
    "name, words",
    [
        ("sampling", ["Model calls for a picture", "euler", "rk4", "sigmoid", "simple", "20"]),
        ("resolution", ["3 times the trained side", "watershed 0.5", "proportional attention"]),
        ("context-drop", ["4 x 4, until 1", "Whole picture right", "no context drop"]),
        ("context-drop-time", ["4096 px", "Tokens averaged into one", "2 x 2"]),
    ],
)
def test_plot_says_what_it_shows(plots, name, words, tmp_path):
    file = tmp_path / "plot.svg"
    plots.draw(plots.PLOTS[name][1], ROWS[name], file)
    text = file.read_text()
    assert [word for word in words if f">{word}</text>" not in text] == []
    assert len(text) < 60_000
    assert "fill: #ffffff" in text  # a background of its own, also on a dark page


def points(axes, color):
    return {
        (float(x), float(y))
        for line in axes.lines
        if line.get_color() == color
        for x, y in line.get_xydata()
    }


def test_each_schedule_has_its_line_in_its_solvers_panel(plots):
    figure = Figure()
    plots.sampling(figure, SAMPLING)
    euler, rk4 = figure.axes[:2]
    assert points(euler, plots.ORANGE) == {(10, 0.1), (20, 0.05)} and not points(rk4, plots.ORANGE)
    assert points(rk4, plots.BLUE) == {(10, 0.1), (20, 0.05)}


def test_methods_stand_in_rows_and_sizes_in_panels(plots):
    figure = Figure()
    changed = [r | {"attributes": 0.7} if r["setting"] == "3x, none" else r for r in RESOLUTION]
    plots.resolution(figure, changed)
    twice, thrice = figure.axes[0], figure.axes[4]
    assert points(twice, plots.ORANGE) == {(0.5, 0), (0.5, 1)}
    assert points(thrice, plots.ORANGE) == {(0.7, 0), (0.5, 1)}
    assert points(thrice, plots.BLUE) == {(0.5, 0), (0.5, 1)}


def test_results_without_a_column_are_drawn_without_it(plots):
    figure = Figure()
    plots.context_drop(figure, [{k: r[k] for k in r if k != "in_place"} for r in CONTEXT_DROP])
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "Attributes right",
        "Whole picture right",
    ]


def test_what_is_not_measured_is_named_and_left_out(plots, tmp_path, capsys):
    (tmp_path / "sampling.json").write_text(json.dumps({"pictures": 2, "rows": SAMPLING}))
    plots.main()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("sampling.svg: ")
    assert said[1] == "resolution.json is not there: resolution.svg is not drawn"
    assert sorted(file.name for file in tmp_path.glob("*.svg")) == ["sampling.svg"]
