"""Fit solvers to the demo model: what the pack ships as demo/models/lumina_next_solvers.

    python -m demo.evaluation.fit_solver

96 pictures to fit and 96 to choose by, of scenes that training may have drawn; 200 to report on, of
held-out scenes, the same that measure.py draws. Takes about two hours on one core. What is done is
kept in demo/checkpoints, where a stopped run, and fitted.py, find it.
"""

import argparse
import os
import random
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

from .. import FOLDER
from ..scenes.drawing import main_caption, sample_training_scene
from .evaluate import BATCH
from .generate import MODELS, NAME, UNSET, Demo
from .measure import TRAINED_PX, Measure

CALLS = (5, 8, 10, 15)
CFG = 4.0
SETS = Sets(96, 96, 200)
FILE = MODELS / "lumina_next_solvers" / "lumina-next-demo.json"


def kept(work: Work) -> Path:
    """Where trajectories and scores stay."""
    folder = FOLDER / "checkpoints" / f"fitted-{work.digest[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def noise_of(seed: int, side: int) -> Tensor:
    return torch.randn(4, side, side, generator=torch.Generator().manual_seed(seed))


def setting(demo: Demo, cfg: float = CFG, size_px: int = TRAINED_PX) -> Setting:
    """What a run of the demo model is, to be compared with what a solver was fitted to."""
    weights = to_native(read_state_dict(MODELS / "diffusion_models" / NAME))
    architecture = architecture_of(demo.dit.config)
    return Setting(architecture, fingerprint(weights), cfg, size_px, size_px)


def pictures_of(
    demo: Demo, sets: Sets = SETS, cfg: float = CFG, size_px: int = TRAINED_PX
) -> tuple[Pictures, list[str]]:
    """The pictures of all three sets, and their captions."""
    rng, drawn = random.Random(13), sets.fit + sets.choose
    measure = Measure(demo, sets.report, size_px)
    captions = [main_caption(sample_training_scene(rng)) for _ in range(drawn)]
    captions += [main_caption(scene) for scene in measure.scenes]
    noise = [noise_of(seed, measure.side) for seed in range(drawn)]
    for start in range(0, sets.report, BATCH):
        generator = torch.Generator().manual_seed(start)
        count = min(BATCH, sets.report - start)
        noise += torch.randn(count, 4, measure.side, measure.side, generator=generator)
    denoisers = {}

    def answer(part: slice, x: Tensor, sigma: Tensor) -> Tensor:
        key = (part.start, part.stop)
        if key not in denoisers:
            denoisers[key] = demo.denoiser(captions[part], cfg, UNSET)
        return denoisers[key](x, sigma)

    return Pictures(torch.stack(noise), answer, batch=16), captions


def work_of(demo: Demo, captions: list[str]) -> Work:
    return Work(FILE, repr((setting(demo), SETS, captions)))


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
    parser.add_argument("--tries", type=int, default=8, help="of noise levels")
    parser.add_argument("--rounds", type=int, default=6, help="of polish")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    demo, effort = Demo(), Effort(SETS, args.tries, args.rounds)
    pictures, captions = pictures_of(demo)
    pictures.tick = Progress(effort.picture_calls(CALLS, sum(CALLS)))
    work = work_of(demo, captions)
    with torch.inference_mode():
        found = fit(pictures, effort, CALLS, kept(work))
    counts = (SETS.fit, SETS.choose, SETS.report)
    content = FittedFile(setting(demo), counts, tuple(captions), 0, TRUTH, work.digest, found)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    write_fitted(FILE, content)
    for calls, fitted in found.items():
        print(calls, asdict(fitted.errors), {n: asdict(e) for n, e in fitted.others.items()})


if __name__ == "__main__":
    main()
