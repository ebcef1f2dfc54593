"""Runs the kinds, prints their table, and keeps it with the machine that it was made on."""

import argparse
import dataclasses
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from lumina_next.benchmarks.faults.tally import Tally, table
from lumina_next.lumina.checkpoints.convert.disk import atomic_write
from lumina_next.tools import environment

RESULTS = Path(__file__).parents[1] / "results" / "faults.json"
KINDS = {  # kind -> its module, and how many cases each of its rows has
    "files": ("files", 500),
    "graphs": ("jobs.graphs", 1000),
    "interrupts": ("jobs.interrupts", 20),
    "layer_errors": ("jobs.layer_errors", 60),
    "kills": ("writing.kills", 60),
    "full_disks": ("writing.full_disks", 60),
    "load": ("jobs.load", 500),
    "pictures": ("jobs.pictures", 8),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the kinds that were asked for. Exits with 1 if anything was wrong or lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (all)")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases (1)")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    if set(given.kinds) - KINDS.keys():
        parser.error(f"the kinds are {', '.join(KINDS)}")
    torch.set_num_threads(1)  # of this process; the models are small
    for kind in given.kinds or KINDS:
        start = time.monotonic()
        rows = list(run(kind, given.share, given.seed))
        keep(
            given.json,
            kind,
            {
                "machine": machine(),
                "seed": given.seed,
                "seconds": round(time.monotonic() - start),
                "rows": [dataclasses.asdict(row) for row in rows],
            },
        )
    everything = tallies(read(given.json))
    print(table(everything), flush=True)
    sys.exit(any(row.wrong or row.lost for row in everything))


def run(kind: str, share: float, seed: int) -> Iterator[Tally]:
    """The rows of one kind, each shown when it is done."""
    name, count = KINDS[kind]
    module = importlib.import_module(f"lumina_next.benchmarks.faults.{name}")
    for tally in module.tallies(max(1, round(count * share)), seed):
        print(f"{kind}: {tally}", file=sys.stderr, flush=True)
        yield tally


def tallies(results: dict) -> list[Tally]:
    """The rows of all kinds that were run, in the table's order."""
    found = results["kinds"]
    return [Tally(**row) for kind in KINDS if kind in found for row in found[kind]["rows"]]


def machine() -> dict[str, object]:
    """What the numbers were made on."""
    return {
        "processors": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "comfyui": environment.host_directory().name,
    }


def read(path: Path) -> dict:
    """The results so far."""
    return json.loads(path.read_text()) if path.exists() else {"kinds": {}}


def keep(path: Path, kind: str, result: dict) -> None:
    """Write one kind's result beside those of the others, which another report may have made."""
    found = read(path)["kinds"] | {kind: result}
    ordered = {kind: found[kind] for kind in KINDS if kind in found}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps({"kinds": ordered}, indent=1) + "\n").encode())
