"""Hundreds of jobs of eight clients at once, some of them interrupted or deleted from the queue.

Each job must end once: in the history, as a success with one file or as interrupted, or deleted by
the client that asked for it. A picture must be that of its seed, to the bit. Lost: a job that is in
neither; two files of one job are wrong. The last row is the host's memory: it may not grow by more
than `LARGEST_GROWTH` from the first fifth of the jobs to the end.
"""

import itertools
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
from torch import Tensor

from lumina_next.benchmarks.faults.jobs.hosts import latent, latent_graph, running
from lumina_next.benchmarks.faults.tally import Tally
from lumina_next.tests.support import jobs
from lumina_next.tools.comfyui import Host

CLIENTS, SEEDS = 8, 12
INTERRUPTED, DELETED = 0.1, 0.1  # shares of the jobs
LARGEST_GROWTH = 100 * 2**20  # bytes


@dataclass
class Job:
    """What was asked of the host, under a name that no other job has."""

    name: str
    seed: int
    prompt_id: str
    is_deleted: bool = False


@dataclass
class Client:
    """One of several that hand in jobs, and interrupt or delete some of their own."""

    host: Host
    number: int
    count: int
    seed: int
    jobs: list[Job] = field(default_factory=list)

    def run(self) -> None:
        chance = random.Random(f"{self.seed} {self.number}")
        for index in range(self.count):
            seed, name = chance.randrange(SEEDS), f"load-{self.number}-{index}"
            graph = latent_graph(seed, name)
            self.jobs.append(Job(name, seed, jobs.queue(self.host, graph, client_id=name)))
            draw, job = chance.random(), chance.choice(self.jobs)
            if draw < INTERRUPTED:
                jobs.post(self.host, "/interrupt", {"prompt_id": job.prompt_id})
            elif draw < INTERRUPTED + DELETED:
                job.is_deleted = True
                jobs.post(self.host, "/queue", {"delete": [job.prompt_id]})
            time.sleep(chance.uniform(0, 0.2))


def tallies(count: int, seed: int) -> Iterator[Tally]:
    """A row for the jobs, and one for memory."""
    ended, memory = Tally(f"jobs of {CLIENTS} clients"), Tally("memory under load")
    with running() as host:
        expected = {number: latent(host, latent_graph(number)) for number in range(SEEDS)}
        clients = [Client(host, i, max(1, count // CLIENTS), seed) for i in range(CLIENTS)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        early = memory_after(host, count // 5)
        for thread in threads:
            thread.join()
        jobs.wait_until(lambda: is_idle(host), timeout=900)
        growth = psutil.Process(host.process_id).memory_info().rss - early
        history = host.get("/history")
        for job in itertools.chain.from_iterable(client.jobs for client in clients):
            past = history.get(job.prompt_id)
            problem = outcome(host, job, past, expected[job.seed])
            ended.count(problem and f"{job}: {problem}", lost=past is None)
    too_large = growth > LARGEST_GROWTH
    memory.count(f"the host has grown by {growth / 2**20:.0f} MiB" if too_large else None)
    yield from (ended, memory)


def memory_after(host: Host, count: int) -> int:
    """Resident bytes of the host once so many jobs have ended."""
    jobs.wait_until(lambda: is_idle(host) or len(host.get("/history")) >= count, timeout=900)
    return psutil.Process(host.process_id).memory_info().rss


def is_idle(host: Host) -> bool:
    queue = host.get("/queue")
    return not queue["queue_running"] and not queue["queue_pending"]


def outcome(host: Host, job: Job, history: dict | None, expected: Tensor) -> str | None:
    """What is wrong with a job after all have ended."""
    files = list(host.output.glob(f"{job.name}_*"))
    if history is None:
        if files:
            return "it is not in the history, and has files"
        return None if job.is_deleted else "it is neither in the history nor deleted"
    if jobs.events(history, "execution_interrupted"):
        return None if len(files) <= 1 else f"it was interrupted and has {len(files)} files"
    if history["status"]["status_str"] != "success":
        return f"it ended as {history['status']}"
    if len(files) != 1:
        return f"it has {len(files)} files"
    is_same = jobs.saved_latent(host, history).equal(expected)
    return None if is_same else f"it draws another picture than seed {job.seed} draws"
