"""Runs one case in a process of its own, bounded in time and memory, and watched.

The process is forked from a parent that has imported everything, so that a case takes milliseconds.
What it may not do, however it is asked: open a socket, start a program, write or remove a file.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable

LONGEST_S = 5  # of the processor
LONGEST_WAIT_S = 60  # by the clock, for what waits without working
LARGEST_BYTES = 500 * 10**6  # more than the parent has
FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")
FORBIDDEN += ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
FORBIDDEN += ("os.symlink", "os.chmod", "shutil.", "ctypes.dlopen", "webbrowser.")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def bounded(case: Callable[[], str | None]) -> str | None:
    """What `case` finds wrong, or what it did that it may not do; None if nothing.

    case: returns a problem in words, or None. Any exception from it is a problem.
    """
    return in_child(lambda: _watched(case))


def in_child(case: Callable[[], str | None]) -> str | None:
    """The same without the bounds."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as log:
        child = os.fork()
        if child == 0:
            _run(case, answer.fileno(), log.fileno())
        _, status = os.waitpid(child, 0)
        answer.seek(0)
        log.seek(0)
        if os.WIFSIGNALED(status):
            return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
        if b"\x1b" in log.read():
            return "wrote an escape code to the log"
        return json.loads(answer.read() or b'"ended without an answer"')


def _run(case: Callable[[], str | None], answer: int, log: int) -> None:
    """The child's whole life."""
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        problem = case()
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{type(error).__name__}: {str(error)[:200]} ({where.name})"
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(answer, json.dumps(problem).encode())
    os._exit(0)


def _watched(case: Callable[[], str | None]) -> str | None:
    watch, problem = Watch(), None
    _limit()
    sys.addaudithook(watch)
    watch.active = True
    try:
        problem = case()
    except BaseException:
        if watch.noted is None:
            raise
    finally:
        watch.active = False
    return watch.noted or problem


def _limit() -> None:
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + LARGEST_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_S, LONGEST_S + 1))
    signal.alarm(LONGEST_WAIT_S)


class Watch:
    """An audit hook that notes and forbids what no model file may bring about."""

    def __init__(self) -> None:
        self.active = False
        self.noted: str | None = None

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.active:
            return
        is_writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if is_writing or event.startswith(FORBIDDEN):
            self.noted = f"{event}: {arguments!r}"[:300]
            raise PermissionError(f"{event} is forbidden here")
