"""How exact the demo model's fitted solvers are, beside others at as many model calls.

    python -m demo.evaluation.fitted           errors and matches on held-out scenes
    python -m demo.evaluation.fitted --decay   that of 10 calls at another cfg, size or denoise

Prints a Markdown table and writes demo/results/fitted.json or fitted-decay.json after each row.
Errors are distances from a fine solution (classic rk4, 60 uniform steps), the root mean square over
each picture's latent: their mean, median, 90th percentile and largest.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from lumina.schedules import SCHEDULES
from lumina.solvers.fitted import Errors, read_fitted
from lumina.solvers.fitting import Pictures, Sets
from lumina.solvers.fitting.pictures import distances
from lumina.solvers.fitting.run import errors_of
from lumina.solvers.fitting.trajectories import FINE_SIGMAS, FINE_SOLVER, FINE_STEPS, fine_ends
from lumina.solvers.runge_kutta import SOLVERS, Solver, model_calls

from .. import FOLDER
from ..training.saving import write_json
from .evaluate import Share
from .fit_solver import CALLS, CFG, FILE, SETS, kept, pictures_of, work_of
from .generate import Demo
from .measure import RESULTS, TRAINED_PX, Measure, native

OTHERS = (("euler", "uniform"), ("euler", "sigmoid"), ("midpoint", "uniform"), ("bosh3", "sigmoid"))
MANY_CALLS = 30
DECAYED = ((CFG, TRAINED_PX), (2.0, TRAINED_PX), (7.0, TRAINED_PX), (CFG, 192))
DECAYED_CALLS, DECAYED_PICTURES = 10, 16
DENOISE = (0.8, 0.6, 0.4)


@dataclass(frozen=True)
class Row:
    """A solver at so many calls: its errors, and shares of attributes and whole pictures right."""

    setting: str
    calls: int
    errors: Errors
    attributes: float | None = None
    exact: float | None = None


class Report:
    """Draws the pictures of the report by one solver after another."""

    def __init__(self, demo: Demo, sets: Sets, pictures: Pictures, folder: Path) -> None:
        self.demo, self.sets, self.pictures = demo, sets, pictures
        self.scenes = Measure(demo, sets.report).scenes
        self.truth = fine_ends(pictures, sets.reported, folder)

    def row(self, name: str, calls: int, solver: Solver, sigmas: Tensor, *, read: bool) -> Row:
        parts = self.pictures.parts(self.sets.reported)
        latents = torch.cat([self.pictures.drawn(part, solver, sigmas) for part in parts])
        errors = errors_of(distances(latents, self.truth))
        if not read:
            return Row(name, calls, errors)
        share = Share.of(self.scenes, self.demo.pictures(latents))
        right, exact = share.right / share.attributes, share.exact / share.pictures
        return Row(name, calls, errors, right, exact)


def proof(demo: Demo) -> Iterator[Row]:
    """The fitted solvers, and others at as many calls; uniform Euler at MANY_CALLS."""
    pictures, captions = pictures_of(demo)
    report = Report(demo, SETS, pictures, kept(work_of(demo, captions)))
    solvers = read_fitted(FILE).solvers
    many = SCHEDULES["uniform"](MANY_CALLS)
    yield report.row("euler, uniform", MANY_CALLS, SOLVERS["euler"], many, read=True)
    for calls in CALLS:
        fitted = solvers[calls].solver
        yield report.row("fitted", calls, fitted, torch.tensor(fitted.sigmas), read=True)
        for solver, schedule in OTHERS:
            steps, rest = divmod(calls, model_calls(solver, 1) or 1)
            if not rest:
                name, sigmas = f"{solver}, {schedule}", SCHEDULES[schedule](steps)
                yield report.row(name, calls, SOLVERS[solver], sigmas, read=True)
        for name, other in native(calls).items():
            yield report.row(f"ComfyUI's {name}", calls, *other, read=True)


def decay(demo: Demo) -> Iterator[Row]:
    """The solver of DECAYED_CALLS and sigmoid Euler, at what it was fitted to and at others."""
    fitted = read_fitted(FILE).solvers[DECAYED_CALLS].solver
    sigmoid = SOLVERS["euler"], SCHEDULES["sigmoid"](DECAYED_CALLS)
    for cfg, size_px in DECAYED:
        sets = Sets(0, 0, DECAYED_PICTURES)
        pictures, _ = pictures_of(demo, sets, cfg, size_px)
        folder = FOLDER / "checkpoints" / f"fitted-decay-{cfg:g}-{size_px}-{DECAYED_PICTURES}"
        folder.mkdir(parents=True, exist_ok=True)
        report = Report(demo, sets, pictures, folder)
        at = f"cfg {cfg:g}, {size_px} px"
        levels = torch.tensor(fitted.sigmas)
        yield report.row(f"{at}, fitted", DECAYED_CALLS, fitted, levels, read=False)
        yield report.row(f"{at}, euler, sigmoid", DECAYED_CALLS, *sigmoid, read=False)


def later_starts(demo: Demo) -> Iterator[Row]:
    """The last steps of the same solver, and uniform Euler in as many, from pictures with noise.

    As denoise below 1 draws: from the fine solution of other noise, mixed with noise at the level
    nearest to `denoise`.
    """
    fitted = read_fitted(FILE).solvers[DECAYED_CALLS].solver
    sets = Sets(0, 0, DECAYED_PICTURES)
    pictures, _ = pictures_of(demo, sets)
    whole = slice(0, DECAYED_PICTURES)
    exact = SOLVERS[FINE_SOLVER]
    drawn = pictures.drawn(whole, exact, torch.tensor(FINE_SIGMAS))
    noise = pictures.noise.roll(1, 0)
    for denoise in DENOISE:
        levels = fitted.tail(denoise)
        start, steps = float(levels[0]), len(levels) - 1
        pictures.noise = (1 - start) * drawn + start * noise
        fine = start * SCHEDULES["uniform"](round(start * FINE_STEPS))
        truth = pictures.drawn(whole, exact, fine)
        uniform = start * SCHEDULES["uniform"](steps)
        for name, solver, sigmas in (
            ("fitted", fitted, levels),
            ("euler, uniform", SOLVERS["euler"], uniform),
        ):
            off = distances(pictures.drawn(whole, solver, sigmas), truth)
            yield Row(f"denoise {denoise:g}, {name}", steps, errors_of(off))


def line(row: Row) -> str:
    """A line of the Markdown table."""
    errors = [f"{error:.4f}" for error in asdict(row.errors).values()]
    shares = ["-" if share is None else f"{share:.1%}" for share in (row.attributes, row.exact)]
    return f"| {' | '.join([str(row.calls), row.setting, *errors, *shares])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decay", action="store_true", help="at another cfg and another size")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows, demo = [], Demo()
    made, name, count = proof(demo), "fitted", SETS.report
    if args.decay:
        made, name = chain(decay(demo), later_starts(demo)), "fitted-decay"
        count = DECAYED_PICTURES
    print("| Calls | Solver | Mean | Median | 90 % | Worst | Attributes | Whole pictures |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with torch.inference_mode():
        for row in made:
            print(line(row), flush=True)
            rows.append(asdict(row))
            write_json(RESULTS / f"{name}.json", {"pictures": count, "rows": rows})


if __name__ == "__main__":
    main()
