"""Steps, whole pictures, memory, loading and importing, beside diffusers and released attention.

    python -m benchmarks.peers                  everything, on a processor: some hours
    python -m benchmarks.peers steps --sizes 512
    python -m benchmarks.peers caption picture  on one thread, whatever --threads says

All ways run in one process, each in turn, round by round, with random weights. Some layers of the
2B's width are timed. `caption` is the share of a step that keys and values of the caption take:
what computing them once a run would save at most. `picture` is the demo model's, from the prompt to
pixels; it is an error if two ways draw different ones. With one thread seconds are the processor's
time on this program alone; with more they are elapsed time. Prints Markdown tables and writes
benchmarks/results/peers.json, where parts, sizes, dtypes and threads that were not asked for stay
as they are.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from demo.training.saving import write_json
from tools.fetch import HOST_VERSION
from tools.in_process import import_comfyui, import_pack

from ..context_drop import name_of
from .steps import HEADER, MIB, Case, peaks, timings

RESULTS = Path(__file__).parents[1] / "results" / "peers.json"
PARTS = ("steps", "peaks", "loading", "import", "calls", "caption", "picture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="|".join(PARTS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048], help="px")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count()])
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--minutes", type=float, default=10, help="at most, for each line")
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(unknown)}. There are: {', '.join(PARTS)}")
    import_comfyui()
    import_pack()
    for part in args.parts:
        save(args.json, part, MEASURES[part](args))


def save(path: Path, part: str, found: object) -> None:
    """Beside the other parts of the file, and the part's other cases that were measured alike."""
    made_on = {
        "machine": name_of(torch.device("cpu")),
        "torch": torch.__version__,
        "comfyui": HOST_VERSION,
    }
    known = json.loads(path.read_text()) if path.exists() else {}
    before = known.get(part, {})
    if all(before.get(key) == value for key, value in made_on.items()):
        found = with_other_cases(found, before["found"])
    write_json(path, {**known, part: {**made_on, "found": found}})


def with_other_cases(found: object, before: object) -> object:
    """The rows of `before` for cases of which `found` has none, then those of `found`."""
    if not isinstance(found, list):
        return found
    cases = [row.get("case") for row in found]
    return [*(row for row in before if row.get("case") not in cases), *found]


def cases(args: argparse.Namespace) -> Iterator[Case]:
    for size_px in args.sizes:
        for dtype in args.dtypes:
            for threads in args.threads:
                yield Case(size_px, dtype, threads=threads)


def measure_steps(args: argparse.Namespace) -> list[dict]:
    print_header(HEADER)
    rows = []
    for case in cases(args):
        for row in timings(case, args.repeats, args.minutes):
            print(row, flush=True)
            rows.append(asdict(row))
    return rows


def measure_peaks(args: argparse.Namespace) -> list[dict]:
    rows = []
    for size_px in args.sizes:
        for dtype in args.dtypes:
            case = Case(size_px, dtype)
            found = peaks(case)
            in_mib = {name: "too much" if n is None else n // MIB for name, n in found.items()}
            print(f"{size_px} px, {dtype}: {in_mib} MiB", flush=True)
            rows.append({"case": asdict(case), "bytes": found})
    return rows


def measure_loading(args: argparse.Namespace) -> dict:
    from .parts import loading

    return shown(loading(args.repeats))


def measure_import(args: argparse.Namespace) -> dict:
    from .parts import import_seconds, median_of

    return shown(median_of(import_seconds, args.repeats))


def measure_calls(args: argparse.Namespace) -> dict:
    from .parts import added_seconds

    return shown(added_seconds(args.repeats))


def measure_caption(args: argparse.Namespace) -> list[dict]:
    from .caption import HEADER, caption_share

    print_header(HEADER)
    rows = []
    for case in (Case(px, dtype) for px in args.sizes for dtype in args.dtypes):
        row = caption_share(case, args.repeats, args.minutes)
        print(row, flush=True)
        rows.append(asdict(row))
    return rows


def measure_picture(args: argparse.Namespace) -> list[dict]:
    from .picture import HEADER, pictures

    print_header(HEADER)
    rows = pictures(args.repeats, args.minutes)
    print("\n".join(map(str, rows)), flush=True)
    return [asdict(row) for row in rows]


def print_header(header: str) -> None:
    print(f"{header}\n|{' --- |' * (header.count('|') - 1)}", flush=True)


def shown(found: dict) -> dict:
    print(json.dumps(found, indent=1), flush=True)
    return found


MEASURES = dict(
    zip(
        PARTS,
        (
            measure_steps,
            measure_peaks,
            measure_loading,
            measure_import,
            measure_calls,
            measure_caption,
            measure_picture,
        ),
        strict=True,
    )
)

if __name__ == "__main__":
    main()
