"""Context drop's keys averaged after or before RoPE turns them: what either does to pictures.

    python -m benchmarks.pooling --count 40

Values are averaged in both. "after" is what lumina does: the keys of a cell are turned, each to its
own place, and then averaged. "before": they are averaged as they are and turned to the cell's
middle. The paper does not say which. Pictures of the demo model, Euler and the sigmoid
schedule; `error` is the latents' root mean square distance from those drawn from the same noise
without context drop, `closer` the share of pictures in which this one is closer to them than the
other. Prints a Markdown table and writes benchmarks/results/pooling.json.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from demo.evaluation.evaluate import Share
from demo.evaluation.generate import Demo
from demo.evaluation.measure import Measure
from demo.training.saving import write_json
from lumina import rope
from lumina.model.layers import scaled_dot_product_attention
from lumina.model.next_dit import NextDiT
from lumina.options.context_drop import Cells, ContextDrop
from lumina.options.forward import ForwardOptions
from lumina.options.run import RunSettings
from lumina.options.step import Step

RESULTS = Path(__file__).parent / "results" / "pooling.json"
STEPS, SCHEDULE = 12, "sigmoid"


class CellsInAttention(Cells):
    """Cells that leave the layer's tokens whole: `pooling_attention` averages them."""

    def pooled(self, x: Tensor) -> Tensor:
        return x

    def averaged(self, x: Tensor) -> Tensor:
        return super().pooled(x)

    def rotation(self, head_dim: int) -> Tensor:
        """The RoPE table of the cells' middles, of the frequencies as trained."""
        rows, columns = (
            torch.stack([cell.mean() for cell in torch.arange(float(side)).split(self.factor)])
            for side in (self.height, self.width)
        )
        return rope.rotation_table((rows, columns), [rope.frequencies(head_dim)] * 2)


class PooledBeforeRotation(RunSettings):
    """Settings whose context drop averages keys before they are turned."""

    def forward_options(self, step: Step) -> ForwardOptions:
        options = super().forward_options(step)
        if options.cells is None:
            return options
        return replace(options, cells=CellsInAttention(**vars(options.cells)))


def pooling_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    scale: float,
    options: ForwardOptions,
) -> Tensor:
    """torch's attention; averages keys and values first where `CellsInAttention` ask for it."""
    cells = options.cells
    # Only captions have a mask, since each is padded to the length of the longest.
    if isinstance(cells, CellsInAttention) and mask is None:
        unturned = rope.rotate(k.transpose(1, 2), options.rotation.transpose(-1, -2))
        averaged = cells.averaged(unturned.transpose(1, 2))
        k = rope.rotate(averaged.transpose(1, 2), cells.rotation(q.shape[-1])).transpose(1, 2)
        v = cells.averaged(v)
    return scaled_dot_product_attention(q, k, v, mask=mask, scale=scale, options=options)


def demo_model() -> Demo:
    """The demo model on `pooling_attention`."""
    demo = Demo()
    model = NextDiT(demo.dit.config, attention=pooling_attention, device="meta")
    model.load_state_dict(demo.dit.state_dict(), assign=True)
    demo.dit = model.eval().requires_grad_(False)
    return demo


POOLED = {"after": RunSettings, "before": PooledBeforeRotation}


@dataclass(frozen=True)
class Row:
    """One line of the table. Shares are from 0 to 1; `error` and `closer` as above."""

    factor: int | None
    until: float | None
    pooled: str | None
    attributes: float
    exact: float
    error: float | None = None
    closer: float | None = None

    def __str__(self) -> str:
        setting = ["none", "-", "-"]
        if self.factor is not None:
            setting = [f"{self.factor} x {self.factor}", f"{self.until:g}", self.pooled]
        shares = [self.attributes, self.exact, self.closer]
        attributes, exact, closer = ("-" if n is None else f"{n:.1%}" for n in shares)
        error = "-" if self.error is None else f"{self.error:.4f}"
        return f"| {' | '.join([*setting, attributes, exact, error, closer])} |"


class Comparison:
    """Draws the same scenes from the same noise, without context drop and both ways with it."""

    def __init__(self, demo: Demo, count: int) -> None:
        self.measure = Measure(demo, count)
        self.usual = self._latents(RunSettings())

    def rows(self) -> Iterator[Row]:
        yield Row(None, None, None, *self._shares(self.usual))
        for factor in (2, 4):
            for until in (0.5, 1.0):
                drop = ContextDrop(factor, until)
                latents = {n: self._latents(kind(None, drop)) for n, kind in POOLED.items()}
                squares = {n: (x - self.usual).square().mean((1, 2, 3)) for n, x in latents.items()}
                for name, other in (("after", "before"), ("before", "after")):
                    error = squares[name].mean().sqrt().item()
                    closer = (squares[name] < squares[other]).float().mean().item()
                    yield Row(factor, until, name, *self._shares(latents[name]), error, closer)

    def _latents(self, settings: RunSettings) -> Tensor:
        return self.measure.latents(steps=STEPS, schedule=SCHEDULE, settings=settings)

    def _shares(self, latents: Tensor) -> tuple[float, float]:
        share = Share.of(self.measure.scenes, self.measure.demo.pictures(latents))
        return share.right / share.attributes, share.exact / share.pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40, help="pictures for each setting")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| Cells | Until | Pooled | Attributes | Exact | Error | Closer |")
    print(f"|{' --- |' * 7}")
    rows = []
    for row in Comparison(demo_model(), args.count).rows():
        print(row, flush=True)
        rows.append(asdict(row))
    content = {"pictures": args.count, "steps": STEPS, "schedule": SCHEDULE, "rows": rows}
    write_json(RESULTS, content)


if __name__ == "__main__":
    main()
