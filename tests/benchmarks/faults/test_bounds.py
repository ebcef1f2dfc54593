"""What a case may not do is noticed, however it ends; what it finds comes back."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from lumina_next.benchmarks.faults import bounds


def swallowed(action):
    """The action, with its error lost on the way."""
    try:
        action()
    except Exception:
        pass


def endless():
    while True:
        pass


@pytest.mark.parametrize("answer", [None, "is wrong"])
def test_answer_comes_back(answer):
    assert bounds.bounded(lambda: answer) == answer


@pytest.mark.parametrize(
    "action, noted",
    [
        (socket.socket, "socket.__new__"),
        (lambda: socket.getaddrinfo("localhost", 80), "socket.getaddrinfo"),
        (lambda: subprocess.run(["true"]), "subprocess.Popen"),
        (lambda: os.system("true"), "os.system"),
        (lambda: open("absent", "w"), "open: ('absent', 'w'"),
        (lambda: os.remove("absent"), "os.remove"),
    ],
    ids=["socket", "look-up", "program", "shell", "write", "remove"],
)
def test_forbidden_action_is_noted_also_where_its_error_is_lost(action, noted):
    assert noted in bounds.bounded(action)
    assert noted in bounds.bounded(lambda: swallowed(action))


def test_reading_is_allowed():
    assert bounds.bounded(lambda: Path(__file__).read_bytes() and None) is None


def test_time_is_bounded(monkeypatch):
    monkeypatch.setattr(bounds, "LONGEST_S", 1)
    assert bounds.bounded(endless) == "ended by SIGXCPU"


def test_memory_is_bounded():
    assert "MemoryError" in bounds.bounded(lambda: bytes(2 * bounds.LARGEST_BYTES) and None)


def test_crash_is_told_from_an_answer():
    assert bounds.bounded(lambda: os.kill(os.getpid(), signal.SIGKILL)) == "ended by SIGKILL"


def test_error_is_told_with_its_place():
    assert bounds.bounded(lambda: swallowed(1) or int("x")).startswith("ValueError: invalid")


def test_escape_code_on_the_terminal_is_noticed():
    assert "escape code" in bounds.bounded(lambda: os.write(2, b"\x1b[31mred") and None)


def test_interpreter_that_ends_is_no_answer():
    assert bounds.bounded(lambda: os._exit(0)) == "ended without an answer"
