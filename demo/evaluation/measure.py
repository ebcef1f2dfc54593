"""What the paper's sampler does on the demo model, in numbers.

    python -m demo.evaluation.measure sampling       schedule x solver at 5 to 30 model calls
    python -m demo.evaluation.measure resolution     RoPE methods at 2x and 3x the trained size
    python -m demo.evaluation.measure context-drop   matches and time against factor and range

Pictures of held-out scenes from generate.py, read back by scenes/reading.py. Prints a Markdown
table and writes demo/results/NAME.json after each row. `error` is the latents' root mean square
distance from a fine solution (classic rk4, 60 uniform steps) of the same noise. Sampling is
measured in float32; the other two, where only pictures are compared, in bfloat16 where the weights
are used.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from lumina.config import PX_PER_LATENT, PX_PER_TOKEN
from lumina.options.context_drop import ORDERS, ContextDrop
from lumina.options.resolution import Resolution
from lumina.options.run import RunSettings
from lumina.rope.scaling import Scaling
from lumina.schedules import SCHEDULES
from lumina.solvers.runge_kutta import Solver, model_calls
from tools.in_process import import_comfyui

from .. import FOLDER
from ..scenes.drawing import main_caption
from ..scenes.reading import sharpness
from ..training.saving import write_json
from .evaluate import BATCH, Share, held_out_scenes
from .generate import Demo

RESULTS = FOLDER / "results"
TRAINED_PX = 128
CALLS = (5, 10, 20, 30)
SOLVERS_COMPARED = ("euler", "midpoint", "heun", "bosh3", "rk4")


@dataclass(frozen=True)
class Row:
    """One line of a table: what was set, and what came of it. Shares are from 0 to 1."""

    setting: str
    attributes: float
    exact: float
    in_place: float
    error: float | None = None
    sharpness: float | None = None
    seconds: float | None = None


class Measure:
    """Draws the same scenes from the same noise under one setting after another."""

    def __init__(
        self, demo: Demo, count: int, size_px: int = TRAINED_PX, *, in_half: bool = False
    ) -> None:
        self.demo, self.side, self.in_half = demo, size_px // PX_PER_LATENT, in_half
        self.scenes = held_out_scenes(count // 2, 1, seed=7) + held_out_scenes(count // 2, 2, 7)
        self.fine: Tensor | None = None

    def latents(self, **run: object) -> Tensor:
        batches = [
            self.demo.latents(
                [main_caption(scene) for scene in self.scenes[start : start + BATCH]],
                self.side,
                seed=start,
                **run,
            )
            for start in range(0, len(self.scenes), BATCH)
        ]
        return torch.cat(batches)

    def row(self, setting: str, **run: object) -> Row:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_half):
            started = time.perf_counter()
            latents = self.latents(**run)
            seconds = time.perf_counter() - started
            pictures = self.demo.pictures(latents)
        share = Share.of(self.scenes, pictures)
        return Row(
            setting,
            share.right / share.attributes,
            share.exact / share.pictures,
            share.in_place / share.pictures,
            None if self.fine is None else float((latents - self.fine).square().mean().sqrt()),
            statistics.mean(map(sharpness, pictures)),
            seconds,
        )


def sampling(demo: Demo, count: int) -> Iterator[Row]:
    """Every schedule with every solver that spends exactly so many model calls."""
    measure = Measure(demo, count)
    measure.fine = measure.latents(steps=60, solver="rk4_classic")
    for calls in CALLS:
        for solver in SOLVERS_COMPARED:
            steps, rest = divmod(calls, model_calls(solver, 1))
            if rest:
                continue
            for schedule in SCHEDULES:
                yield measure.row(
                    f"{calls} calls, {solver}, {schedule}",
                    steps=steps,
                    solver=solver,
                    schedule=schedule,
                )
        for name, (solver, sigmas) in native(calls).items():
            yield measure.row(f"{calls} calls, ComfyUI's {name}", solver=solver, sigmas=sigmas)


def native(steps: int) -> dict[str, tuple[Solver, Tensor]]:
    """ComfyUI's own samplers and schedulers for flow models, one model call a step."""
    import_comfyui()
    import comfy.k_diffusion.sampling as samplers
    import comfy.model_sampling
    import comfy.samplers

    flow = comfy.model_sampling.ModelSamplingDiscreteFlow()
    sigmas = {n: comfy.samplers.calculate_sigmas(flow, n, steps) for n in ("normal", "simple")}
    return {
        "euler, normal": (samplers.sample_euler, sigmas["normal"]),
        "dpmpp_2m, simple": (samplers.sample_dpmpp_2m, sigmas["simple"]),
    }


def resolution(demo: Demo, count: int) -> Iterator[Row]:
    """Every method at 2 and 3 times the trained side, without and with proportional attention.

    Euler, 16 steps of the sigmoid schedule; first the same scenes at the trained size.
    """
    run = {"steps": 16, "schedule": "sigmoid"}
    yield Measure(demo, count, in_half=True).row("1x", **run)
    methods = [None, Scaling("linear"), Scaling("ntk"), Scaling("frequency_aware")]
    methods += [Scaling("time_aware"), Scaling("yarn"), Scaling("dype")]
    methods += [Scaling("dype", dype_base="yarn")]
    methods += [Scaling("watershed", watershed=w) for w in (0.3, 0.5, 0.7, 0.85, 0.95)]
    for times in (2, 3):
        measure = Measure(demo, count, times * TRAINED_PX, in_half=True)
        for scaling in methods:
            for proportional in (False, True):
                chosen = Resolution(TRAINED_PX // PX_PER_TOKEN, scaling, proportional=proportional)
                name = f"{times}x, {described(scaling)}{', proportional' * proportional}"
                yield measure.row(name, settings=RunSettings(chosen), **run)


def described(scaling: Scaling | None) -> str:
    if scaling is None:
        return "none"
    if scaling.method == "watershed":
        return f"watershed {scaling.watershed:g}"
    return f"dype on {scaling.dype_base}" if scaling.method == "dype" else scaling.method


def context_drop(demo: Demo, count: int) -> Iterator[Row]:
    """Factor, range and order at the trained size, against none."""
    measure = Measure(demo, count, in_half=True)
    yield measure.row("none")
    for factor in (2, 4):
        for until in (0.5, 1.0):
            for order in ORDERS:
                drop = RunSettings(context_drop=ContextDrop(factor, until, order))
                yield measure.row(f"{factor} x {factor}, until {until:g}, {order}", settings=drop)


def table(row: Row) -> str:
    """A line of the Markdown table."""
    numbers = [f"{share:.1%}" for share in (row.attributes, row.exact, row.in_place)]
    numbers += ["-" if n is None else f"{n:.3f}" for n in (row.error, row.sharpness)]
    return f"| {' | '.join([row.setting, *numbers, f'{row.seconds:.1f}'])} |"


SUBJECTS = {"sampling": sampling, "resolution": resolution, "context-drop": context_drop}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--count", type=int, default=200, help="pictures for each setting")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| Setting | Attributes | Exact | In place | Error | Sharpness | Seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for row in SUBJECTS[args.subject](Demo(), args.count):
        print(table(row), flush=True)
        rows.append(asdict(row))
        write_json(RESULTS / f"{args.subject}.json", {"pictures": args.count, "rows": rows})


if __name__ == "__main__":
    main()
