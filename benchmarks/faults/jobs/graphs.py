"""Random graphs over HTTP: each runs, or is refused or fails in words; none takes the host down.

Wrong: an answer other than 200 and 400, a refusal without words, an error of a type that is no
message to a user and comes through code of ours, a host that no longer runs jobs. Lost: a job that
is neither in the history nor in the queue, or that an interrupt does not end. Errors of ComfyUI's
own nodes, in which no code of ours is, are right: they are the host's.
"""

import itertools
import json
import time
import urllib.error
from collections.abc import Iterator

from lumina_next.benchmarks.faults.jobs.hosts import latent_graph, running
from lumina_next.benchmarks.faults.jobs.random_graphs import Graphs
from lumina_next.benchmarks.faults.tally import Tally
from lumina_next.tests.support import jobs
from lumina_next.tools.comfyui import PACK_NAME, Host

AT_ONCE = 10  # graphs in the queue together
LONGEST_S = 30  # then a job is interrupted
# Errors whose text may be a message; a KeyError of Python's own has no words.
MESSAGES = ("ValueError", "FileNotFoundError", "FileExistsError", "OSError", "KeyError")
MESSAGES += ("torch.OutOfMemoryError", "comfy.model_management.InterruptProcessingException")


def tallies(count: int, seed: int) -> Iterator[Tally]:
    """One row."""
    tally = Tally("random graphs")
    while tally.tried < count:
        with running() as host:
            graphs = iter(Graphs(host.get("/object_info"), seed + tally.tried))
            is_alive = True
            while is_alive and tally.tried < count:
                is_alive = tried(host, list(itertools.islice(graphs, AT_ONCE)), tally)
    yield tally


def tried(host: Host, batch: list[dict], tally: Tally) -> bool:
    """Count a few graphs that are handed in together. Returns whether the host still runs jobs."""
    answers = [hand_in(host, graph) for graph in batch]
    for graph, answer in zip(batch, answers, strict=True):
        problem, lost = outcome(host, *answer)
        tally.count(problem and f"{problem} in {json.dumps(graph)[:3000]}", lost=lost)
    is_alive = runs_jobs(host)
    if not is_alive:
        tally.count(f"no more jobs run: {host.log_tail(30)} after {json.dumps(batch)}", lost=True)
    return is_alive


def hand_in(host: Host, graph: dict) -> tuple[int, dict | None]:
    try:
        return jobs.post(host, "/prompt", {"prompt": graph})
    except (urllib.error.URLError, OSError, ValueError) as error:
        return 0, {"error": repr(error)}


def outcome(host: Host, status: int, answer: dict | None) -> tuple[str | None, bool]:
    """(problem, whether a job is lost) of a graph by the answer to it, and by its history."""
    if status == 400:
        return refusal_problem(answer), False
    if status != 200:
        return f"answer {status}: {answer}", False
    history = ended(host, answer["prompt_id"])
    if history is None:
        return "the job is neither in the history nor in the queue, or does not end", True
    errors = jobs.events(history, "execution_error")
    return error_problem(errors[0]) if errors else None, False


def refusal_problem(answer: dict | None) -> str | None:
    """What keeps a refusal from being words. An error in a check of ours is none."""
    if not answer or not answer.get("error", {}).get("message"):
        return f"refused without words: {answer}"
    for node in (answer.get("node_errors") or {}).values():
        for error in node["errors"]:
            if is_ours(error.get("extra_info", {}).get("traceback") or []):
                return f"a check failed: {error}"
    return None


def error_problem(error: dict) -> str | None:
    """What keeps the error of a job from being a message, if code of ours is in it."""
    kind, text = error["exception_type"], error["exception_message"]
    if not is_ours(error["traceback"]):
        return None
    if kind not in MESSAGES:
        return f"{error['node_type']}: {kind}: {text[:300]} {error['traceback'][-2:]}"
    return None if len(text.split()) > 3 else f"{error['node_type']}: no sentence: {text}"


def is_ours(traceback: list[str]) -> bool:
    """Whether code of ours is in a traceback, which the host gives line by line."""
    return any(PACK_NAME in line for line in traceback)


def ended(host: Host, prompt_id: str) -> dict | None:
    """The history of a job, which is interrupted if it takes too long. None if it is nowhere."""
    for _ in range(3):
        try:
            return jobs.wait(host, prompt_id, timeout=LONGEST_S)
        except (TimeoutError, OSError):
            jobs.post(host, "/interrupt", {"prompt_id": prompt_id})
    return None


def runs_jobs(host: Host) -> bool:
    try:
        jobs.run(host, latent_graph(seed=time.monotonic_ns() % 2**32), timeout=120)
    except (TimeoutError, OSError, AssertionError):
        return False
    return True
