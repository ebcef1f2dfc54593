"""Errors inside a layer: the job fails by this very error, and the next draws what it always drew.

Lost: a job that is not in the history.
"""

import itertools
import random
from collections.abc import Iterator

from lumina_next.benchmarks.faults.jobs.failing_layer import ERRORS, TEXT
from lumina_next.benchmarks.faults.jobs.hosts import latent, latent_graph, other_picture, running
from lumina_next.benchmarks.faults.tally import Tally
from lumina_next.tests.support import jobs, tiny
from lumina_next.tools.comfyui import Host

STEPS = 4


def tallies(count: int, seed: int) -> Iterator[Tally]:
    """One row: kinds of errors, layers and calls in turn."""
    tally, chance = Tally("errors inside a layer"), random.Random(seed)
    with running() as host:
        expected = latent(host, latent_graph(seed))
        kinds = itertools.islice(itertools.cycle(ERRORS), count)
        for number, kind in enumerate(kinds):
            place = {"layer": chance.randrange(tiny.CONFIG.layers), "call": chance.randint(1, 4)}
            problem, lost = failed(host, seed + 1 + number, error=kind, **place)
            problem = problem or other_picture(host, latent_graph(seed), expected)
            tally.count(problem and f"{kind} in {place}: {problem}", lost=lost)
    yield tally


def failed(host: Host, seed: int, **settings: object) -> tuple[str | None, bool]:
    """(problem, whether a job is lost) of a job with a layer that fails."""
    graph = latent_graph(seed, sampler={"steps": STEPS, "model": ["failing", 0]})
    inputs = {"model": ["model", 0], **settings}
    graph["failing"] = {"class_type": "FailingLayer", "inputs": inputs}
    try:
        history = jobs.wait(host, jobs.queue(host, graph))
    except TimeoutError:
        return "it is not in the history", True
    errors = jobs.events(history, "execution_error")
    if not errors:
        return "it did not fail", False
    (error,) = errors
    told = (
        error["exception_type"].endswith(settings["error"]) and TEXT in error["exception_message"]
    )
    return (None if told else f"{error['exception_type']}: {error['exception_message']}"), False
