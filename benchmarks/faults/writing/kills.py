"""A packing that is killed at any moment: no file, the old file or the whole new one, never a part.

SIGTERM, and SIGKILL, which nothing can catch; on disks that know files without a name and on those
that do not; with a file of that name before and without. Each case then packs once more, which must
give the whole file and leave nothing beside it. Lost: a file that was there before and is not now.
"""

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lumina_next.benchmarks.faults.tally import Tally
from lumina_next.benchmarks.faults.writing.packing import Packing, without_nameless_files
from lumina_next.lumina.__main__ import main

OLD = b"another file"
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


def tallies(count: int, seed: int) -> Iterator[Tally]:
    """A row for each signal, half of `count` each."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="faults-") as base:
        packing = Packing(Path(base))
        start = time.monotonic()
        finish(start_packing(packing, is_nameless=True))
        longest = time.monotonic() - start
        packing.whole = packing.file.read_bytes()
        for number in SIGNALS:
            tally = Tally(f"packing ended by {number.name}")
            for case in range(max(1, count // 2)):
                old, is_nameless = (OLD if case % 2 else None), bool(case // 2 % 2)
                moment = chance.uniform(0, longest)
                problem, lost = killed(packing, number, moment, old, is_nameless)
                tally.count(problem and f"after {moment:.3f} s: {problem}", lost=lost)
            yield tally


def killed(
    packing: Packing, number: signal.Signals, moment: float, old: bytes | None, is_nameless: bool
) -> tuple[str | None, bool]:
    """(problem, whether the old file is lost) of one packing that gets a signal at that moment."""
    packing.file.unlink(missing_ok=True)
    if old is not None:
        packing.file.write_bytes(old)
    child = start_packing(packing, is_nameless)
    time.sleep(moment)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    finish(child)
    found = packing.content()
    if found not in (old, packing.whole):
        return "the file is neither the old one nor the whole new one", found is None
    if number == signal.SIGTERM and packing.leftovers():
        return f"left {packing.leftovers()}", False
    finish(start_packing(packing, is_nameless))
    if packing.content() != packing.whole or packing.leftovers():
        return f"the next packing leaves {packing.leftovers()}, or another file", False
    return None, False


def start_packing(packing: Packing, is_nameless: bool) -> int:
    """The id of a new process that runs `python -m lumina pack`, in which all is imported."""
    child = os.fork()
    if child:
        return child
    with contextlib.suppress(BaseException):
        sys.stdout = sys.stderr = open(os.devnull, "w")
        command = ["pack", str(packing.folder), str(packing.file), "--overwrite"]
        if is_nameless:
            main(command)
        else:
            without_nameless_files(lambda: main(command))
    os._exit(0)  # atexit is the parent's; what the file needs is done in `finally`


def finish(child: int) -> None:
    os.waitpid(child, 0)
