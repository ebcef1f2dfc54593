"""Fit solvers to the demo model: what the pack ships as demo/models/lumina_next_solvers.

    python -m demo.evaluation.fit_solver

48 pictures to fit and 48 to choose by, of scenes that training may have drawn; 100 to report on, of
held-out scenes, the same that measure.py draws. Takes about an hour on one core. A stopped run goes
on where it was.
"""

import argparse
import os
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from lumina.checkpoints.fingerprint import fingerprint
from lumina.checkpoints.key_names import to_native
from lumina.checkpoints.loading import read_state_dict
from lumina.solvers.fitted import FittedFile, Setting, write_fitted
from lumina.solvers.fitted.file import architecture_of
from lumina.solvers.fitting import Effort, Pictures, Sets, Work, fit
from lumina.solvers.fitting.trajectories import TRUTH

from ..scenes.drawing import main_caption, sample_training_scene
from .evaluate import BATCH
from .generate import MODELS, NAME, UNSET, Demo
from .measure import TRAINED_PX, Measure

CALLS = (5, 8, 10, 15)
CFG = 4.0
SETS = Sets(48, 48, 100)
FILE = MODELS / "lumina_next_solvers" / "lumina-next-demo.json"


def noise_of(seed: int, side: int) -> Tensor:
    return torch.randn(4, side, side, generator=torch.Generator().manual_seed(seed))


def setting(demo: Demo, cfg: float = CFG, size_px: int = TRAINED_PX) -> Setting:
    """What a run of the demo model is, to be compared with what a solver was fitted to."""
    weights = to_native(read_state_dict(MODELS / "diffusion_models" / NAME))
    architecture = architecture_of(demo.dit.config)
    return Setting(architecture, fingerprint(weights), cfg, size_px, size_px)


def pictures_of(demo: Demo, sets: Sets) -> tuple[Pictures, list[str]]:
    """The pictures of all three sets, and their captions."""
    rng, drawn = random.Random(13), sets.fit + sets.choose
    measure = Measure(demo, sets.report)
    captions = [main_caption(sample_training_scene(rng)) for _ in range(drawn)]
    captions += [main_caption(scene) for scene in measure.scenes]
    noise = [torch.stack([noise_of(seed, measure.side) for seed in range(drawn)])]
    for start in range(0, sets.report, BATCH):
        generator = torch.Generator().manual_seed(start)
        noise.append(torch.randn(BATCH, 4, measure.side, measure.side, generator=generator))
    denoisers = {}

    def answer(part: slice, x: Tensor, sigma: Tensor) -> Tensor:
        key = (part.start, part.stop)
        if key not in denoisers:
            denoisers[key] = demo.denoiser(captions[part], CFG, UNSET)
        return denoisers[key](x, sigma)

    return Pictures(torch.cat(noise), answer, batch=16), captions


class Progress:
    """Prints every minute how much of the work is done."""

    def __init__(self, total: int) -> None:
        self.done, self.total, self.said = 0, total, time.monotonic()

    def __call__(self, pictures: int) -> None:
        self.done += pictures
        if time.monotonic() - self.said > 60:
            self.said = time.monotonic()
            print(f"{self.done / self.total:.1%} of at most {self.total} calls", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=48, help="of noise levels")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    demo, effort = Demo(), Effort(SETS, args.tries)
    pictures, captions = pictures_of(demo, effort.sets)
    pictures.tick = Progress(effort.picture_calls(args.calls, 1))
    of = setting(demo)
    args.file.parent.mkdir(parents=True, exist_ok=True)
    work = Work(args.file, repr((of, SETS, captions)))
    with torch.inference_mode(), work.kept() as folder:
        print(f"what is done is kept in {folder}", file=sys.stderr)
        found = fit(pictures, effort, args.calls, folder)
        counts = (SETS.fit, SETS.choose, SETS.report)
        write_fitted(
            args.file, FittedFile(of, counts, tuple(captions), 0, TRUTH, work.digest, found)
        )
    for calls, fitted in found.items():
        print(calls, asdict(fitted.errors), {n: asdict(e) for n, e in fitted.others.items()})


if __name__ == "__main__":
    main()
