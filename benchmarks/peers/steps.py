"""Time and memory of one denoising step, both prompts, on some layers of the 2B's width."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch

from lumina.config import NEXT_DIT_2B_GQA
from tools.in_process import import_comfyui, import_pack
from tools.shell import ROOT

from .memory import peak_bytes, resident_bytes
from .models import CONTENDERS, Call, Inputs

MIB = 1 << 20
Spread = tuple[float, float, float]  # lowest, median, highest


@dataclass(frozen=True)
class Case:
    """A picture's side, a dtype and how many layers and threads."""

    size_px: int
    dtype: str
    layers: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Timing:
    """Seconds of one way in a case, and its ratio to ours in the same round."""

    case: Case
    name: str
    rounds: int
    seconds: Spread
    ours_over_it: Spread

    def __str__(self) -> str:
        case = self.case
        spreads = with_range(self.seconds), with_range(self.ours_over_it)
        cells = f"{case.size_px} px", case.dtype, case.threads, self.name, *spreads
        return f"| {' | '.join(map(str, cells))} |"


HEADER = "| Picture | dtype | Threads | Way | Seconds | Ours over it |"


def timings(case: Case, repeats: int, minutes: float) -> list[Timing]:
    """Every way in turn, round by round; fewer rounds than `repeats` where time runs out.

    Ways that need more memory than there is are left out.
    """
    torch.set_num_threads(case.threads)
    dtype = getattr(torch, case.dtype)
    config = replace(NEXT_DIT_2B_GQA, layers=case.layers)
    inputs = Inputs.of(case.size_px, config)
    calls = {name: make(config, dtype, inputs) for name, make in CONTENDERS.items()}
    calls = {name: call for name, call in calls.items() if has_memory(call)}
    rounds = list(timed_rounds(calls, case.threads, repeats, minutes))
    return [Timing(case, name, len(rounds), *beside(rounds, name, "ours")) for name in calls]


@torch.inference_mode()
def timed_rounds(
    calls: dict, threads: int, repeats: int, minutes: float
) -> Iterator[dict[str, float]]:
    """Seconds by name. One thread: the processor's time on it, which others do not lengthen."""
    clock = time.process_time if threads == 1 else time.perf_counter
    for call in calls.values():
        call()  # wakes kernels, compiles
    began = time.perf_counter()
    for count in range(repeats):
        seconds = {}
        for name, call in calls.items():
            start = clock()
            call()
            seconds[name] = clock() - start
        yield seconds
        passed = time.perf_counter() - began
        if passed * (count + 2) / (count + 1) > 60 * minutes:
            return


@torch.inference_mode()
def has_memory(call: Call) -> bool:
    """Whether a call ends, and not for want of memory."""
    try:
        call()
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        return False
    return True


def beside(rounds: list[dict[str, float]], name: str, other: str) -> tuple[Spread, Spread]:
    """Seconds of a way, and the ratio of another's to them in the same round."""
    return (
        spread([seconds[name] for seconds in rounds]),
        spread([seconds[other] / seconds[name] for seconds in rounds]),
    )


def spread(values: list[float]) -> Spread:
    return min(values), statistics.median(values), max(values)


def with_range(spread: Spread, form: str = ".2f") -> str:
    """The median, and lowest and highest in brackets."""
    lowest, median, highest = (format(value, form) for value in spread)
    return f"{median} ({lowest}-{highest})"


def peaks(case: Case) -> dict[str, int | None]:
    """Bytes that a step adds to a process at most, by way; each in a process of its own.

    None where they are more than there are.
    """
    return {name: peak_of(name, case) for name in CONTENDERS if name != "floor"}


def peak_of(name: str, case: Case) -> int | None:
    command = [sys.executable, "-m", "benchmarks.peers.steps", name, json.dumps(asdict(case))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@torch.inference_mode()
def main(name: str, case: str) -> None:
    """Print what one step adds at most to this process, in bytes; null if it is too much."""
    import_comfyui()
    import_pack()
    given = Case(**json.loads(case))
    torch.set_num_threads(given.threads)
    config = replace(NEXT_DIT_2B_GQA, layers=given.layers)
    small, whole = Inputs.of(64, config), Inputs.of(given.size_px, config)
    make = CONTENDERS[name]
    make(config, getattr(torch, given.dtype), small)()  # what is kept after any step
    call = make(config, getattr(torch, given.dtype), whole)
    before = resident_bytes()
    print(json.dumps(peak_bytes() - before if has_memory(call) else None))


if __name__ == "__main__":
    main(*sys.argv[1:])
