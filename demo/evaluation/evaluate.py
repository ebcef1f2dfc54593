"""How much of a caption the demo model draws, over captions that it never saw.

    python -m demo.evaluation.evaluate --count 240

Scenes are those that training holds back (is_held_out in scenes/drawing.py), half with one thing
and half with two, each described in the main phrasing. Pictures come from generate.py with the demo
model and are read back by scenes/reading.py.
"""

import argparse
import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..scenes.drawing import Scene, main_caption, sample_held_out_scene
from ..scenes.reading import exact, in_place, read, score
from ..training.saving import write_json
from .generate import MODELS, Demo

BATCH = 20


@dataclass(frozen=True)
class Share:
    """Of `pictures` pictures: how many attributes are right, and how many pictures throughout.

    in_place: pictures with every thing once, where it belongs, whatever its shape.
    """

    pictures: int
    right: int
    attributes: int
    exact: int
    in_place: int

    @classmethod
    def of(cls, wanted: list[Scene], pictures: np.ndarray) -> "Share":
        """What `pictures` (B, H, W, 3) uint8 show of the scenes asked for, one each."""
        readings = [read(picture) for picture in pictures]
        scores = [score(scene, r) for scene, r in zip(wanted, readings, strict=True)]
        right, attributes = (sum(part) for part in zip(*scores, strict=True))
        whole, placed = (sum(map(judge, wanted, readings)) for judge in (exact, in_place))
        return cls(len(wanted), right, attributes, whole, placed)

    def __str__(self) -> str:
        return (
            f"{self.right / self.attributes:6.1%} of attributes, "
            f"{self.exact / self.pictures:6.1%} of pictures exact ({self.pictures} pictures)"
        )


def held_out_scenes(count: int, things: int, seed: int) -> list[Scene]:
    rng = random.Random(seed)
    return [sample_held_out_scene(rng, things) for _ in range(count)]


def evaluate(demo: Demo, wanted: list[Scene], **settings: float) -> Share:
    """Draw every scene from its caption and read it back."""
    pictures = []
    for start in range(0, len(wanted), BATCH):
        captions = [main_caption(scene) for scene in wanted[start : start + BATCH]]
        pictures.append(demo.draw(captions, seed=start, **settings))
    return Share.of(wanted, np.concatenate(pictures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=240, help="captions in all")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--size", type=int, default=128, help="side of a picture in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    demo, results = Demo(args.models), {}
    print(f"Euler, {args.steps} steps, cfg {args.cfg:g}, {args.size} px")
    for things, name in [(1, "one thing"), (2, "two things")]:
        wanted = held_out_scenes(args.count // 2, things, args.seed)
        share = evaluate(demo, wanted, size_px=args.size, steps=args.steps, cfg=args.cfg)
        print(f"{name:10} {share}", flush=True)
        results[name] = vars(share)
    if args.json:
        write_json(args.json, results)


if __name__ == "__main__":
    main()
