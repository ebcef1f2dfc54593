"""What a step costs with context drop, on layers of the released model's size.

    python -m benchmarks.context_drop                  one layer, on the processor
    python -m benchmarks.context_drop --device cuda    all 24 layers, on the graphics card

A Next-DiT of random weights runs at 1024, 2048 and 4096 px with every layer dropping, one pass with
each factor r in turn. Ratios are between passes of the same round; the table has their medians and,
in brackets, lowest and highest. Where fewer layers than 24 were timed, a step of the whole model is
computed: 24 times the layer, and what stands around the layers. Seconds on a processor are its time
on this program alone, of one layer. Self-attention is the attention's share of a layer's time,
without projections, rotation and averaging. Prints a Markdown table and writes
benchmarks/results/context_drop.json.
"""

import argparse
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from demo.training.saving import write_json
from lumina.config import NEXT_DIT_2B_GQA, PX_PER_LATENT, PX_PER_TOKEN, NextDiTConfig
from lumina.model.layers import scaled_dot_product_attention
from lumina.model.next_dit import NextDiT
from lumina.options.context_drop import Cells, ContextDrop
from lumina.options.forward import ForwardOptions
from lumina.schedules import SCHEDULES

RESULTS = Path(__file__).parent / "results" / "context_drop.json"
FACTORS = (1, 2, 4)
CAPTION_TOKENS = 128
COLUMNS = (
    *("Picture", "Tokens", "Batch", "Rounds", "r", "Layer, s", "Self-attention"),
    *("Layer", "Step", "Run"),
)
SCHEDULE, STEPS = "sigmoid", 20
NOTE = (
    f"Computed, not run: the last column, Euler with {STEPS} steps of the {SCHEDULE} schedule, of "
    "which the default range (until {until:g}) lets {share:.1%} of all layer passes drop."
)


class Stopwatch:
    """Adds up the seconds of named spans.

    On a graphics card by its own events, without waiting; on a processor its time on this program
    in all threads, which programs beside it lengthen least.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_card = device.type == "cuda"
        self.spans: defaultdict[str, list[tuple]] = defaultdict(list)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        start = self._mark()
        yield
        self.spans[name].append((start, self._mark()))

    def seconds(self) -> dict[str, float]:
        """Seconds by name since the last call."""
        if self.on_card:
            torch.cuda.synchronize()
        sums = {
            name: sum(self._between(*marks) for marks in spans)
            for name, spans in self.spans.items()
        }
        self.spans.clear()
        return sums

    def _mark(self) -> "float | torch.cuda.Event":
        if not self.on_card:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start: "float | torch.cuda.Event", end: "float | torch.cuda.Event") -> float:
        return start.elapsed_time(end) / 1000 if self.on_card else end - start


class TimedNextDiT(NextDiT):
    """A model of random weights that says where the time of its passes goes."""

    def __init__(self, config: NextDiTConfig, device: torch.device, dtype: torch.dtype) -> None:
        stopwatch = Stopwatch(device)
        attention = partial(timed_attention, stopwatch)
        super().__init__(config, attention=attention, device=device, dtype=dtype)
        self.stopwatch = stopwatch
        for parameter in self.eval().requires_grad_(False).parameters():
            parameter.normal_(std=0.02)

    def run_blocks(self, *args: object) -> Tensor:
        with self.stopwatch.span("layers"):
            return super().run_blocks(*args)


def timed_attention(
    stopwatch: Stopwatch,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    **settings: object,
) -> Tensor:
    """torch's attention. Only the caption's has a mask: `Run` pads its captions."""
    with stopwatch.span("self_attention" if mask is None else "cross_attention"):
        return scaled_dot_product_attention(q, k, v, mask=mask, **settings)


@dataclass(frozen=True)
class Pass:
    """Seconds of one forward pass: all of it, its layers, self-attention in them."""

    whole: float
    layers: float
    self_attention: float

    def of_model(self, timed: int, layers: int) -> float:
        """Seconds of a pass through `layers` layers, from one through `timed` of them."""
        return self.whole + self.layers * (layers / timed - 1)


class Run:
    """Passes of one model at one size, every layer dropping."""

    def __init__(self, model: TimedNextDiT, size_px: int, batch: int) -> None:
        self.model, self.side = model, size_px // PX_PER_TOKEN
        config, where = model.config, model.x_embedder.weight
        latent = size_px // PX_PER_LATENT
        mask = torch.ones(batch, CAPTION_TOKENS, device=where.device)
        mask[-1, CAPTION_TOKENS // 2 :] = 0
        self.inputs = (
            torch.randn(batch, config.in_channels, latent, latent).to(where),
            torch.zeros(batch, device=where.device),
            torch.randn(batch, CAPTION_TOKENS, config.caption_dim).to(where),
            mask,
        )

    @torch.inference_mode()
    def timed(self, factor: int) -> Pass:
        dropping = ContextDrop(factor, until=1).layers(0.0, self.model.config.layers)
        options = ForwardOptions(cells=Cells(self.side, self.side, factor), dropping=dropping)
        with self.model.stopwatch.span("whole"):
            self.model(*self.inputs, options)
        seconds = self.model.stopwatch.seconds()
        return Pass(seconds["whole"], seconds["layers"], seconds["self_attention"])

    def rounds(self, repeats: int, minutes: float) -> list[dict[int, Pass]]:
        """`repeats` passes with each factor in turn, or as many as fit; one round at least."""
        self.timed(max(FACTORS))  # the cheapest: wakes kernels and memory
        rounds, started = [], time.perf_counter()
        while len(rounds) < repeats:
            begun = time.perf_counter()
            rounds.append({factor: self.timed(factor) for factor in FACTORS})
            ended = time.perf_counter()
            if ended - started + (ended - begun) > 60 * minutes:
                break
        return rounds


@dataclass(frozen=True)
class Ratio:
    """Time over the time without context drop: of all rounds the median, lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, dropped: Sequence[float], whole: Sequence[float]) -> "Ratio":
        """Of seconds with and without context drop, round by round."""
        ratios = [mine / usual for mine, usual in zip(dropped, whole, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True)
class Row:
    """One line of the table. step: every layer drops; run: a whole run with the default range."""

    size_px: int
    tokens: int
    batch: int
    factor: int
    rounds: int
    layer_seconds: float
    attention_share: float
    layer: Ratio
    step: Ratio
    run: float

    def __str__(self) -> str:
        cells = [f"{self.size_px} px", self.tokens, self.batch, self.rounds, self.factor]
        cells += [f"{self.layer_seconds:.3f}", f"{self.attention_share:.1%}"]
        return f"| {' | '.join(map(str, [*cells, self.layer, self.step, f'{self.run:.3f}']))} |"


def rows(run: Run, rounds: list[dict[int, Pass]], layers: int) -> Iterator[Row]:
    """One row for each factor. layers: of the whole model, which may be more than were timed."""
    timed = run.model.config.layers
    whole = [measured[1] for measured in rounds]
    for factor in FACTORS:
        dropped = [measured[factor] for measured in rounds]
        step = Ratio.of(*([p.of_model(timed, layers) for p in ps] for ps in (dropped, whole)))
        yield Row(
            size_px=run.side * PX_PER_TOKEN,
            tokens=run.side**2,
            batch=len(run.inputs[0]),
            factor=factor,
            rounds=len(rounds),
            layer_seconds=statistics.median(p.layers / timed for p in dropped),
            attention_share=statistics.median(p.self_attention / p.layers for p in dropped),
            layer=Ratio.of(*([p.layers for p in passes] for passes in (dropped, whole))),
            step=step,
            run=1 - dropping_share(ContextDrop(factor), layers) * (1 - step.median),
        )


def dropping_share(drop: ContextDrop, layers: int) -> float:
    """Of all layer passes in a run of STEPS Euler steps, the share that drops."""
    times = (1 - SCHEDULES[SCHEDULE](STEPS)[:-1]).tolist()
    return statistics.mean(len(drop.layers(t, layers)) for t in times) / layers


def batch_for(size_px: int, device: torch.device) -> int:
    """Two, since guidance asks for two; but one where a processor would need many minutes."""
    return 1 if device.type == "cpu" and size_px > 2048 else 2


def name_of(device: torch.device) -> str:
    """The graphics card, or the processor and its widest instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096], help="px")
    parser.add_argument("--repeats", type=int, default=5, help="rounds at each size")
    parser.add_argument("--minutes", type=float, default=9, help="at most, for each size")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--layers", type=int, help="layers to time; a card times all by default")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    whole = NEXT_DIT_2B_GQA
    timed = args.layers or (1 if args.device.type == "cpu" else whole.layers)
    model = TimedNextDiT(replace(whole, layers=timed), args.device, getattr(torch, args.dtype))
    made_on = {
        "device": name_of(args.device),
        "torch": torch.__version__,
        "dtype": args.dtype,
        "threads": args.threads,
        "layers_timed": timed,
        "layers": whole.layers,
    }
    print(", ".join(f"{key} {value}" for key, value in made_on.items()) + "\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    found = []
    for size_px in args.sizes:
        run = Run(model, size_px, batch_for(size_px, args.device))
        for row in rows(run, run.rounds(args.repeats, args.minutes), whole.layers):
            print(row, flush=True)
            found.append(asdict(row))
    default = ContextDrop()
    note = NOTE.format(until=default.until, share=dropping_share(default, whole.layers))
    print(f"\n{note}")
    write_json(args.json, {**made_on, "note": note, "rows": found})


if __name__ == "__main__":
    main()
