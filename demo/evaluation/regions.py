"""Several prompts in one picture on the demo model: ours, ComfyUI's own ways, and one long prompt.

    python -m demo.evaluation.regions --count 30

Each layout has a region for each thing: halves, four and six cells, and free masks. A thing's
prompt names its place in the whole picture, as this model was trained; where ComfyUI draws a region
as a picture of its own, "Set Area", it names that one's center. The model knows one place between
the corners, so that the two middle cells of six share a prompt. Pictures are drawn in ComfyUI from
the same noise, and read back by scenes/reading.py: attributes and exact as for single prompts;
objects is the share of things whose color is at its place. Rows are what passes through the network
at each step for one picture; seconds, of the processor's time on this program, are for one picture.
Prints a Markdown table and writes demo/results/regions.json.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lumina.config import PX_PER_LATENT
from lumina.options.regions import Box, grid
from tools.in_process import import_comfyui, import_pack

from ..scenes.drawing import BACKGROUNDS, COLORS, SHAPES, Scene, Thing, main_caption
from ..scenes.reading import read
from ..training.saving import write_json
from .evaluate import BATCH, Share
from .generate import NAME, Demo
from .measure import RESULTS, TRAINED_PX

SIDE = TRAINED_PX // PX_PER_LATENT
STEPS, CFG = 10, 4.0
DISC_RADIUS = 0.25
Prompt = list[list]  # a CONDITIONING


@dataclass(frozen=True, eq=False)
class Layout:
    """Regions of a picture, and the places that the thing of each may have.

    Regions of the same single place show the same thing.
    """

    areas: Sequence[Box | Tensor]
    places: Sequence[Sequence[str]]

    def scene(self, rng: random.Random) -> tuple[Scene, list[Thing]]:
        """A scene, and the thing of each region; no two things have the same color."""
        background = rng.choice(list(BACKGROUNDS))
        colors = rng.sample(list(COLORS), len(self.areas))
        things: dict[str, Thing] = {}
        of_regions = []
        for color, choices in zip(colors, self.places, strict=True):
            place = rng.choice(choices)
            thing = Thing(rng.choice(SHAPES), color, place)
            of_regions.append(things.setdefault(place, thing))
        return Scene(background, tuple(things.values())), of_regions


def free_masks() -> list[Tensor]:
    """A disc in the middle, and what is left of the picture above and below its diagonal."""
    side = (torch.arange(TRAINED_PX) + 0.5) / TRAINED_PX
    down, across = torch.meshgrid(side, side, indexing="ij")
    disc = (down - 0.5).square() + (across - 0.5).square() < DISC_RADIUS**2
    above = down + across < 1
    return [mask.float()[None] for mask in (disc, above & ~disc, ~above & ~disc)]


TOP, BOTTOM = ("top left", "top right"), ("bottom left", "bottom right")
LAYOUTS = {
    "1 x 2": Layout(grid(1, 2), [(TOP[0], BOTTOM[0]), (TOP[1], BOTTOM[1])]),
    "2 x 2": Layout(grid(2, 2), [(place,) for place in (*TOP, *BOTTOM)]),
    "2 x 3": Layout(
        grid(2, 3),
        [(place,) for place in (TOP[0], "center", TOP[1], BOTTOM[0], "center", BOTTOM[1])],
    ),
    "free masks": Layout(free_masks(), [("center",), (TOP[0],), (BOTTOM[1],)]),
}


class ComfyUI:
    """ComfyUI in this process with the pack's nodes and the demo model."""

    def __init__(self) -> None:
        import_comfyui()
        import nodes

        import_pack()
        from lumina_next.host.model.loading import load_model
        from lumina_next.host.options import regions
        from lumina_next.host.prompts import encoding
        from lumina_next.host.text_encoders.loading import load_text_encoder

        self.nodes, self.regions, self.encoding = nodes, regions, encoding
        self.model, self.clip = load_model(NAME), load_text_encoder(NAME)
        self.rows: list[int] = []
        self._count_rows()

    def _count_rows(self) -> None:
        from comfy.patcher_extension import WrappersMP

        def counted(network: Callable, x: Tensor, *rest: object, **named: object) -> Tensor:
            self.rows.append(len(x))
            return network(x, *rest, **named)

        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "rows", counted)

    def encoded(self, texts: Sequence[str]) -> Prompt:
        """A CONDITIONING with a row for each picture."""
        prompts = self.encoding.encode_each(self.clip, dict(enumerate(texts)))
        return self.encoding.batch(prompts)

    @torch.inference_mode()
    def latents(self, prompt: Prompt, count: int, seed: int) -> Tensor:
        """Latents (count, 4, SIDE, SIDE), as the network draws them."""
        empty = {"samples": torch.zeros(count, 4, SIDE, SIDE)}
        negative = self.encoded([""])
        (out,) = self.nodes.common_ksampler(
            self.model, seed, STEPS, CFG, "euler", "normal", prompt, negative, empty
        )
        return self.model.model.process_latent_in(out["samples"])


# Ways to give each region its prompt: from the scenes and the things of their regions to a prompt.


def by_regions(
    host: ComfyUI, layout: Layout, scenes: Sequence[Scene], things: list, *, joins: bool = False
) -> Prompt:
    """Ours. The global prompt says all of it in one sentence, or joins those of the regions."""
    texts = [captions(scene, of_regions) for scene, of_regions in zip(scenes, things, strict=True)]
    regions = None
    for area, prompts in zip(layout.areas, zip(*texts, strict=True), strict=True):
        box, mask = (vars(area), None) if isinstance(area, Box) else ({}, area)
        regions = host.regions.add_region(host.encoded(prompts), box, mask, regions)
    joined = [" ".join(each) for each in texts]
    sentences = [main_caption(scene) for scene in scenes]
    return host.regions.with_regions(host.encoded(joined if joins else sentences), regions)


def by_masks(host: ComfyUI, layout: Layout, scenes: Sequence[Scene], things: list) -> Prompt:
    """ComfyUI's "Conditioning (Set Mask)" for each region, combined."""
    texts = [captions(scene, of_regions) for scene, of_regions in zip(scenes, things, strict=True)]
    parts = []
    for area, prompts in zip(layout.areas, zip(*texts, strict=True), strict=True):
        mask = area.mask(TRAINED_PX, TRAINED_PX) if isinstance(area, Box) else area
        parts += host.nodes.ConditioningSetMask().append(
            host.encoded(prompts), mask, "default", 1.0
        )[0]
    return parts


def by_areas(host: ComfyUI, layout: Layout, scenes: Sequence[Scene], things: list) -> Prompt:
    """ComfyUI's "Conditioning (Set Area with Percentage)" for each region, combined."""
    parts = []
    for index, area in enumerate(layout.areas):
        middles = [
            captions(scene, [Thing(of[index].shape, of[index].color, "center")])[0]
            for scene, of in zip(scenes, things, strict=True)
        ]
        parts += host.nodes.ConditioningSetAreaPercentage().append(
            host.encoded(middles), area.width, area.height, area.x, area.y, 1.0
        )[0]
    return parts


def by_one_prompt(host: ComfyUI, layout: Layout, scenes: Sequence[Scene], things: list) -> Prompt:
    """One long prompt that names every thing and its place."""
    return host.encoded([main_caption(scene) for scene in scenes])


def captions(scene: Scene, things: Sequence[Thing]) -> list[str]:
    return [main_caption(Scene(scene.background, (thing,))) for thing in things]


WAYS = {
    "Regions": by_regions,
    "Regions, prompts joined": partial(by_regions, joins=True),
    "Set Mask": by_masks,
    "Set Area": by_areas,
    "one long prompt": by_one_prompt,
}


@dataclass(frozen=True)
class Row:
    """What came of one layout by one way. Shares are from 0 to 1."""

    layout: str
    way: str
    attributes: float
    exact: float
    objects: float
    passes: float
    rows: float
    seconds: float


def measure(host: ComfyUI, demo: Demo, name: str, way: str, count: int) -> Row:
    """Draw `count` pictures of a layout and read them back."""
    layout, rng = LAYOUTS[name], random.Random(11)
    scenes, things = zip(*(layout.scene(rng) for _ in range(count)), strict=True)
    host.rows.clear()
    seconds, pictures = 0.0, []
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        prompt = WAYS[way](host, layout, scenes[part], things[part])
        started = time.process_time()
        latents = host.latents(prompt, len(scenes[part]), seed=start)
        seconds += time.process_time() - started
        pictures.append(demo.pictures(latents))
    drawn = np.concatenate(pictures)
    share = Share.of(list(scenes), drawn)
    return Row(
        name,
        way,
        share.right / share.attributes,
        share.exact / share.pictures,
        objects_in_place(scenes, drawn),
        len(host.rows) / STEPS / -(-count // BATCH),
        sum(host.rows) / STEPS / count,
        seconds / count,
    )


def objects_in_place(scenes: Sequence[Scene], pictures: np.ndarray) -> float:
    """The share of things whose color is at its place."""
    found = [{(t.color, t.place) for t in read(picture).things} for picture in pictures]
    wanted = [[(t.color, t.place) for t in scene.things] for scene in scenes]
    hits = [thing in seen for things, seen in zip(wanted, found, strict=True) for thing in things]
    return sum(hits) / len(hits)


def rows(host: ComfyUI, demo: Demo, layouts: Sequence[str], count: int) -> Iterator[Row]:
    """These layouts by every way that has a form for them."""
    for name in layouts:
        for way in WAYS:
            if way != "Set Area" or all(isinstance(area, Box) for area in LAYOUTS[name].areas):
                yield measure(host, demo, name, way, count)


def other_rows(path: Path, settings: Mapping[str, int], layouts: Sequence[str]) -> list[dict]:
    """Rows in the file that stay: of other layouts, measured with these settings."""
    if not path.exists():
        return []
    written = json.loads(path.read_text())
    if any(written.get(name) != value for name, value in settings.items()):
        return []
    return [row for row in written["rows"] if row["layout"] not in layouts]


def in_order(rows: Sequence[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: list(LAYOUTS).index(row["layout"]))


def table(row: Row) -> str:
    """A line of the Markdown table."""
    shares = [f"{share:.1%}" for share in (row.attributes, row.exact, row.objects)]
    numbers = [f"{row.passes:.0f}", f"{row.rows:.0f}", f"{row.seconds:.2f}"]
    return f"| {' | '.join([row.layout, row.way, *shares, *numbers])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--count", type=int, default=30, help="pictures for each row")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| Layout | Way | Attributes | Exact | Objects | Passes | Rows | Seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    path, settings = RESULTS / "regions.json", {"pictures": args.count, "steps": STEPS}
    done = other_rows(path, settings, args.layouts)
    for row in rows(ComfyUI(), Demo(), args.layouts, args.count):
        print(table(row), flush=True)
        done.append(asdict(row))
        write_json(path, {**settings, "rows": in_order(done)})


if __name__ == "__main__":
    main()
