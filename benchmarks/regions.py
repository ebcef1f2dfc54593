"""What a step costs with regions, on a layer of the released model's size.

    python -m benchmarks.regions --threads 1

A layer of a Next-DiT of random weights runs on the processor with prompt and negative prompt in one
batch: with one prompt, then with regions, each with a prompt of its own beside the global one. A
way that draws a pass for each region would take as many rows more. Times are of this program alone;
ratios are between passes of the same round, the table has their medians. Step is computed: 24 times
the layer, and what stands around the layers. Prints a Markdown table and writes
benchmarks/results/regions.json.
"""

import argparse
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from demo.training.saving import write_json
from lumina.config import NEXT_DIT_2B_GQA, PX_PER_LATENT
from lumina.options.forward import ForwardOptions
from lumina.options.regions import CaptionShares, Region, grid

from .context_drop import CAPTION_TOKENS, Pass, TimedNextDiT, name_of

RESULTS = Path(__file__).parent / "results" / "regions.json"
REGION_TOKENS = 48
GRIDS = ((1, 1), (1, 2), (2, 2), (3, 3), (4, 4))
BATCH = 2


class Run:
    """Passes of one model at one size, with one prompt or with a grid of them."""

    def __init__(self, model: TimedNextDiT, size_px: int) -> None:
        self.model, self.latent = model, size_px // PX_PER_LATENT
        self.where = model.x_embedder.weight

    @torch.inference_mode()
    def timed(self, cells: tuple[int, int] | None) -> Pass:
        """Seconds of a pass by regions in `cells` (rows, columns); None is one prompt."""
        regions = [] if cells is None else grid(*cells)
        lengths = [CAPTION_TOKENS] + [REGION_TOKENS] * len(regions)
        config, side = self.model.config, self.latent
        mask = torch.ones(BATCH, sum(lengths), device=self.where.device)
        mask[-1, CAPTION_TOKENS // 2 :] = 0  # the negative prompt, which has no regions
        inputs = (
            torch.randn(BATCH, config.in_channels, side, side).to(self.where),
            torch.zeros(BATCH, device=self.where.device),
            torch.randn(BATCH, sum(lengths), config.caption_dim).to(self.where),
            mask,
        )
        options = ForwardOptions()
        if regions:
            weights = torch.stack([Region(cell).weights(side, side) for cell in regions], dim=1)
            weights = torch.cat([weights, torch.zeros_like(weights)]).to(self.where.device)
            options = ForwardOptions(regions=CaptionShares.of(weights, lengths))
        with self.model.stopwatch.span("whole"):
            self.model(*inputs, options)
        seconds = self.model.stopwatch.seconds()
        return Pass(seconds["whole"], seconds["layers"], seconds["self_attention"])


@dataclass(frozen=True)
class Row:
    """One line of the table; layer and step are over those with one prompt."""

    size_px: int
    regions: int
    rounds: int
    layer_seconds: float
    layer: float
    step: float

    def __str__(self) -> str:
        cells = [f"{self.size_px} px", self.regions, self.rounds, f"{self.layer_seconds:.3f}"]
        return f"| {' | '.join(map(str, [*cells, f'{self.layer:.3f}', f'{self.step:.3f}']))} |"


def rows(run: Run, repeats: int, layers: int) -> Iterator[Row]:
    """One row for one prompt and for each grid. layers: of the whole model."""
    run.timed(GRIDS[0])  # wakes kernels and memory
    rounds = [{cells: run.timed(cells) for cells in (None, *GRIDS)} for _ in range(repeats)]
    timed = run.model.config.layers
    for cells in (None, *GRIDS):
        pairs = [(measured[cells], measured[None]) for measured in rounds]
        yield Row(
            size_px=run.latent * PX_PER_LATENT,
            regions=0 if cells is None else cells[0] * cells[1],
            rounds=repeats,
            layer_seconds=statistics.median(own.layers / timed for own, _ in pairs),
            layer=statistics.median(own.layers / one.layers for own, one in pairs),
            step=statistics.median(
                own.of_model(timed, layers) / one.of_model(timed, layers) for own, one in pairs
            ),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024], help="px")
    parser.add_argument("--repeats", type=int, default=3, help="rounds at each size")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    device, dtype = torch.device("cpu"), torch.bfloat16
    model = TimedNextDiT(replace(NEXT_DIT_2B_GQA, layers=1), device, dtype)
    made_on = {
        "device": name_of(device),
        "torch": torch.__version__,
        "dtype": "bfloat16",
        "threads": args.threads,
        "caption_tokens": CAPTION_TOKENS,
        "region_tokens": REGION_TOKENS,
    }
    print(", ".join(f"{key} {value}" for key, value in made_on.items()) + "\n")
    print("| Picture | Regions | Rounds | Layer, s | Layer | Step |\n|" + " --- |" * 6)
    found = []
    for size_px in args.sizes:
        for row in rows(Run(model, size_px), args.repeats, NEXT_DIT_2B_GQA.layers):
            print(row, flush=True)
            found.append(asdict(row))
    write_json(args.json, {**made_on, "rows": found})


if __name__ == "__main__":
    main()
