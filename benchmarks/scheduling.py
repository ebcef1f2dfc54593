"""Spreads pictures over servers, so that each is drawn once though servers are lost meanwhile.

A server gets its next job when it has done one: none waits for the slowest. The job of a server
that was lost goes to the next one free. A job that fails twice, or that two servers were lost with,
is given up, with the reason: it may be the job that ends them.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

MOST_TRIES = 2


class ServerLost(Exception):
    """A server will never answer again."""


@dataclass(frozen=True)
class Job:
    """One picture to draw; number: its place among all, from 0."""

    number: int
    prompt: str
    seed: int


@dataclass(frozen=True)
class Drawn:
    """What came of a job. picture: the bytes of its file; None where `reason` says why not."""

    job: Job
    server: str
    picture: bytes | None
    reason: str = ""


class Fleet(Protocol):
    """Servers that each draw one picture at a time."""

    servers: Sequence[str]

    def start(self, server: str, job: Job) -> None:
        """Let a server begin a job; returns at once."""

    def next_done(self) -> tuple[str, bytes | Exception]:
        """Wait until some server is done: its name, and the picture or what went wrong."""


def jobs(prompts: Iterable[str], seeds: Iterable[int]) -> list[Job]:
    """Every prompt with every seed, in that order."""
    return [
        Job(number, prompt, seed) for number, (prompt, seed) in enumerate(product(prompts, seeds))
    ]


def draw_all(wanted: Iterable[Job], fleet: Fleet) -> Iterator[Drawn]:
    """Each job once, in the order in which they are done.

    Raises RuntimeError where no server is left, saying how many pictures are missing.
    """
    waiting, idle = deque(wanted), deque(fleet.servers)
    busy: dict[str, Job] = {}
    tries: Counter[Job] = Counter()
    while waiting or busy:
        while waiting and idle:
            server, job = idle.popleft(), waiting.popleft()
            busy[server] = job
            fleet.start(server, job)
        if not busy:
            raise RuntimeError(f"All servers are lost, and {len(waiting)} pictures are missing.")
        server, outcome = fleet.next_done()
        job = busy.pop(server)
        if not isinstance(outcome, ServerLost):
            idle.append(server)
        if isinstance(outcome, bytes):
            yield Drawn(job, server, outcome)
            continue
        tries[job] += 1
        if tries[job] < MOST_TRIES:
            waiting.appendleft(job)
        else:
            yield Drawn(job, server, None, str(outcome))


def in_order(results: Iterable[Drawn]) -> Iterator[Drawn]:
    """The results by the number of their jobs, each as soon as all before it are there."""
    early: dict[int, Drawn] = {}
    number = 0
    for result in results:
        early[result.job.number] = result
        while number in early:
            yield early.pop(number)
            number += 1
