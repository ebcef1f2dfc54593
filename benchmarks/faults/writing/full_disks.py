"""Disks that are full or take no file so large, at any byte: a sentence, and nothing is left.

By the system's limit on the size of a file, and by a small disk in memory, where this process may
mount one; there the check of free space is also passed by, as if another program filled the disk
after it. Lost: a file that was there before and is not now.
"""

import contextlib
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from lumina_next.benchmarks.faults.bounds import in_child
from lumina_next.benchmarks.faults.tally import Tally
from lumina_next.benchmarks.faults.writing.packing import Packing, without_nameless_files
from lumina_next.lumina.checkpoints.convert import pack

OLD = b"another file"


def tallies(count: int, seed: int) -> Iterator[Tally]:
    """A row for limits, and one for a small disk."""
    with tempfile.TemporaryDirectory(prefix="faults-") as base:
        packing = Packing(Path(base))
        pack.pack(packing.folder, packing.file)
        packing.whole = packing.file.read_bytes()
        yield tried("limit on the size of a file", packing, count // 2, limited)
        with small_disk() as disk:
            if disk:
                packing.file = disk / packing.file.name
                yield tried("full disk", packing, count // 2, filled)


def tried(name: str, packing: Packing, count: int, fault: Callable) -> Tally:
    """One row. fault(packing, room, case): makes room for so many bytes in the child."""
    tally = Tally(name)
    for case in range(max(1, count)):
        old = OLD if case % 2 else None
        room = round(len(packing.whole) * (case + 0.5) / max(1, count))
        packing.file.unlink(missing_ok=True)
        if old:
            packing.file.write_bytes(old)
        with fault(packing, room) as prepare:
            problem = in_child(lambda p=prepare, c=case: outcome(packing, p, c))
            left = [name for name in packing.leftovers() if name != "filler"]
            found = packing.content()
        if problem is None and left:
            problem = f"left {left}"
        if problem is None and found != old:
            problem = "the file is not what it was before"
        tally.count(problem and f"{room:,} bytes: {problem}", lost=bool(old) and found is None)
    return tally


def outcome(packing: Packing, prepare: Callable[[int], None], case: int) -> str | None:
    """What is wrong with the error of a packing for which there is no room, in the child."""
    prepare(case)
    write = lambda: pack.pack(packing.folder, packing.file, overwrite=True)  # noqa: E731
    try:
        without_nameless_files(write) if case // 2 % 2 else write()
    except OSError as error:
        text = str(error)
        is_sentence = "Errno" not in text and len(text.split()) > 8
        return None if is_sentence else f"no sentence: {text}"
    return "it was packed"


@contextlib.contextmanager
def limited(packing: Packing, room: int) -> Iterator[Callable[[int], None]]:
    def prepare(case: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its start
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    yield prepare


@contextlib.contextmanager
def filled(packing: Packing, room: int) -> Iterator[Callable[[int], None]]:
    """A file that leaves so much room on the disk."""
    filler = packing.file.with_name("filler")
    with filler.open("wb") as file:
        free = shutil.disk_usage(packing.file.parent).free
        file.write(bytes(max(0, free - room)))

    def prepare(case: int) -> None:
        if case % 3:
            pack.check_space = lambda folder, size: None

    yield prepare
    filler.unlink()


@contextlib.contextmanager
def small_disk() -> Iterator[Path | None]:
    """A disk in memory of 32 MB; None where this user may not mount one."""
    with tempfile.TemporaryDirectory(prefix="faults-disk-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "faults", folder]
        if subprocess.run(mount, capture_output=True).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)
