"""Many pictures on many machines: prompts x seeds spread over ComfyUI servers by Ray.

    python -m pip install -r benchmarks/requirements.txt      once, for Ray
    python -m benchmarks.fleet                                 three servers on this machine
    python -m benchmarks.fleet --address auto --servers 8      on a Ray cluster

Each server is a ComfyUI with this pack, started by a Ray actor on whichever machine Ray puts it:
the folder of the pack, with its .venv and .host, must lie at the same path on all. The demo's graph
draws every prompt with every seed. Pictures lie in a folder as 0000.png, 0001.png and so on, prompt
by prompt, each there once it is whole. On one machine a server is killed while it draws, once a
third of the pictures are there, as a machine would be lost; and afterwards every picture is drawn
again by one server alone, to see that it is the same to the pixel. That is written into
benchmarks/results/fleet.json.
"""

import argparse
import copy
import hashlib
import http.client
import importlib
import importlib.metadata
import io
import json
import os
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image

from benchmarks.scheduling import Drawn, Job, ServerLost, draw_all, in_order, jobs
from demo import FOLDER, GRAPH, client
from demo.training.saving import write_bytes, write_json
from tools import comfyui, environment

RESULTS = Path(__file__).parent / "results" / "fleet.json"
PICTURES = FOLDER / "output" / "fleet"
PROMPTS = (
    "a red circle at the top left on a white background",
    "a blue star in the center on a black background",
    "a green ring at the bottom left and a pink cross in the center on a gray background",
    "a yellow square at the right on a blue background",
    "an orange triangle at the bottom right on a white background",
    "a purple heart in the center on a yellow background",
)
SEEDS = range(4)
START_S = 600  # several servers on a busy machine take minutes
SILENCE_S = 60  # a server that says nothing for so long is taken for lost
LOST = (OSError, http.client.HTTPException)  # of which urllib's errors are some


class Server:
    """A ComfyUI of its own that draws pictures; a Ray actor.

    models: the folder of models that the graph names; None for those that come with the pack.
    """

    def __init__(self, graph: Mapping[str, dict], models: Path | None = None) -> None:
        socket.setdefaulttimeout(SILENCE_S)
        self.graph = graph
        self.folder = tempfile.TemporaryDirectory(prefix="lumina-next-fleet-")
        if models:
            Path(self.folder.name, "models").symlink_to(models.resolve(), target_is_directory=True)
        self.host = comfyui.Host(Path(self.folder.name))
        self.host.start()
        try:
            self.host.wait_ready(START_S)
        except RuntimeError:
            self.stop()
            raise

    def process(self) -> tuple[str, int]:
        """The machine's name and the id of the ComfyUI process on it."""
        return socket.gethostname(), self.host.process_id

    def draw(self, job: Job) -> bytes:
        """The picture of a job, as a PNG file. Raises ServerLost if ComfyUI is gone."""
        try:
            graph = with_job(self.graph, job)
            (picture,) = client.wait(self.host.url, client.queue(self.host.url, graph))
            return client.download(self.host.url, picture)
        except LOST as error:
            raise ServerLost(f"{self.host.url}: {error}") from None

    def stop(self) -> None:
        self.host.stop()
        self.folder.cleanup()


class RayFleet:
    """Servers that Ray starts, and which it carries jobs to and pictures from."""

    def __init__(
        self, ray: ModuleType, count: int, graph: Mapping[str, dict], models: Path | None = None
    ) -> None:
        self.ray = ray
        actor = ray.remote(num_cpus=0)(Server)
        self.actors = {f"server {n + 1}": actor.remote(graph, models) for n in range(count)}
        self.running: dict[object, str] = {}
        self.processes = {}
        for name in list(self.actors):
            try:
                self.processes[name] = ray.get(self.actors[name].process.remote())
            except ray.exceptions.RayActorError as error:
                print(f"{name} did not start: {error}")
                del self.actors[name]

    @property
    def servers(self) -> Sequence[str]:
        return list(self.actors)

    def start(self, server: str, job: Job) -> None:
        self.running[self.actors[server].draw.remote(job)] = server

    def next_done(self) -> tuple[str, bytes | Exception]:
        (done, *_), _ = self.ray.wait(list(self.running), num_returns=1)
        return self.running.pop(done), self._outcome(done)

    def _outcome(self, done: object) -> bytes | Exception:
        try:
            return self.ray.get(done)
        except self.ray.exceptions.RayActorError as error:  # the whole machine is gone
            return ServerLost(str(error))
        except self.ray.exceptions.RayTaskError as error:
            return error.cause

    def kill(self, server: str) -> None:
        """End a server's ComfyUI as a crash would. Raises ValueError for one on another machine."""
        machine, process = self.processes[server]
        if machine != socket.gethostname():
            raise ValueError(f"{server} runs on {machine}; only one on this machine can be killed")
        print(f"Killing {server}")
        os.kill(process, signal.SIGKILL)

    def stop(self) -> None:
        for actor in self.actors.values():
            try:
                self.ray.get(actor.stop.remote())
            except self.ray.exceptions.RayError as error:
                print(f"A server did not stop: {error}")


def with_job(graph: Mapping[str, dict], job: Job) -> dict[str, dict]:
    """A copy of a graph in API format that draws a job."""
    changed = copy.deepcopy(dict(graph))
    client.titled(changed, "Prompt")["inputs"]["text"] = job.prompt
    client.titled(changed, "KSampler")["inputs"]["seed"] = job.seed
    return changed


def import_ray() -> ModuleType:
    """Ray. SystemExit saying how to install it where it is missing."""
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise SystemExit(
            "Ray is not installed. It is needed for this alone; install it by: "
            "python -m pip install -r benchmarks/requirements.txt"
        ) from None


@contextmanager
def ray_fleet(
    address: str | None, count: int, graph: Mapping[str, dict], models: Path | None
) -> Iterator[RayFleet]:
    """Servers on this machine, or on those of the Ray cluster at `address`."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would report to its makers
    ray = import_ray()
    variables = {"PYTHONPATH": str(environment.ROOT), "OMP_NUM_THREADS": "1"}
    ray.init(
        address=address,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": variables},
    )
    try:
        fleet = RayFleet(ray, count, graph, models)
        try:
            yield fleet
        finally:
            fleet.stop()
    finally:
        ray.shutdown()


def run(
    fleet: RayFleet, wanted: Sequence[Job], folder: Path, kill_after: int | None
) -> list[Drawn]:
    """Draw all jobs into a folder; the results in order. kill_after: pictures before the kill."""

    def watched() -> Iterator[Drawn]:
        for count, result in enumerate(draw_all(wanted, fleet), start=1):
            yield result
            if count == kill_after:
                fleet.kill(next(iter(fleet.running.values())))

    results = []
    for result in in_order(watched()):
        results.append(result)
        if result.picture is None:
            print(f"{result.job.number:04d} was given up: {result.reason}")
        else:
            write_bytes(folder / f"{result.job.number:04d}.png", result.picture)
            print(f"{result.job.number:04d} by {result.server}: {result.job.prompt}")
    return results


def pixels(picture: bytes) -> str:
    """A digest of a picture's pixels: the file also holds the graph, in any order."""
    image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    return hashlib.sha256(image.tobytes()).hexdigest()


def main() -> None:
    """Draw, and on one machine kill, compare and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--address", help="a Ray cluster's, or auto; without, this machine alone")
    parser.add_argument("--prompts", type=Path, help="a text file with a prompt on each line")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="pictures of each prompt")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="the folder they go to")
    parser.add_argument("--graph", type=Path, default=GRAPH, help="in API format; the demo's")
    parser.add_argument("--models", type=Path, help="the folder of models that the graph names")
    chosen = parser.parse_args()
    prompts = chosen.prompts.read_text("utf-8").splitlines() if chosen.prompts else PROMPTS
    wanted = jobs(filter(None, prompts), range(chosen.seeds))
    graph = json.loads(chosen.graph.read_text("utf-8"))
    with ray_fleet(chosen.address, chosen.servers, graph, chosen.models) as fleet:
        print(f"{len(wanted)} pictures on {len(fleet.servers)} servers")
        kill_after = None if chosen.address else max(1, len(wanted) // 3)
        start = time.monotonic()
        results = run(fleet, wanted, chosen.pictures, kill_after)
        seconds = time.monotonic() - start
        if kill_after is None:
            return
        alone = Server(graph, chosen.models)
        try:
            again = [pixels(alone.draw(job)) for job in wanted]
        finally:
            alone.stop()
    summary = {
        "servers": chosen.servers,
        "killed": 1,
        **summarized(results, wanted, again),
        "seconds": round(seconds, 1),
        "processors": os.cpu_count(),
        "versions": {module.__name__: module.__version__ for module in (import_ray(), torch)},
    }
    write_json(RESULTS, summary)
    print(json.dumps(summary, indent=1))


def summarized(
    results: Sequence[Drawn], wanted: Sequence[Job], again: Sequence[str]
) -> dict[str, object]:
    """What came of the jobs. again: digests of the same pictures drawn by one server alone."""
    numbers = Counter(result.job.number for result in results if result.picture is not None)
    digests = {r.job.number: pixels(r.picture) for r in results if r.picture is not None}
    return {
        "pictures": len(wanted),
        "lost": sum(job.number not in numbers for job in wanted),
        "doubled": sum(count > 1 for count in numbers.values()),
        "in order": [result.job for result in results] == list(wanted),
        "as by one server alone": sum(
            digests.get(job.number) == digest for job, digest in zip(wanted, again, strict=True)
        ),
        "by server": dict(sorted(Counter(result.server for result in results).items())),
    }


if __name__ == "__main__":
    main()
