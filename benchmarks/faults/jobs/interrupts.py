"""Interrupts at every step of a job: it ends, and the job after it draws what it always draws.

Lost: an interrupted job that is not in the history, or a next one that does not end.
"""

import asyncio
import json
from collections.abc import Iterator

import aiohttp

from lumina_next.benchmarks.faults.jobs.hosts import latent, latent_graph, other_picture, running
from lumina_next.benchmarks.faults.tally import Tally
from lumina_next.tests.support import jobs
from lumina_next.tools.comfyui import Host

STEPS = 10
LONGEST_S = 60


def tallies(count: int, seed: int) -> Iterator[Tally]:
    """A row for each sampler, half of `count` each."""
    with running() as host:
        for name in SAMPLERS:
            tally = Tally(f"interrupts: {name}")
            expected = latent(host, graph(name, seed, steps=2))
            for number in range(max(1, count // 2)):
                step = 1 + number % STEPS
                problem, lost = interrupted(host, name, seed + 1 + number, step)
                problem = problem or other_picture(host, graph(name, seed, steps=2), expected)
                tally.count(problem and f"step {step}: {problem}", lost=lost)
            yield tally


def ksampler(steps: int) -> dict[str, object]:
    return {"sampler": {"steps": steps}}


def lumina_sampler(steps: int) -> dict[str, object]:
    """Its inputs in place of KSampler's, the steps its own."""
    custom = {"preset": "Custom", "preset.steps": steps, "preset.solver": "midpoint"}
    custom |= {"preset.schedule": "uniform"}
    return {"sampler": custom}


SAMPLERS = {"KSampler": ksampler, "Lumina-Next Sampler": lumina_sampler}


def graph(name: str, seed: int, steps: int) -> dict:
    """From prompt to latent by a sampler, at a size at which a step takes longer than a message."""
    size = {"width": 448, "height": 448, "batch_size": 1}
    found = latent_graph(seed, empty=size, **SAMPLERS[name](steps))
    if name != "KSampler":
        found["sampler"]["class_type"] = "LuminaNextSampler"
    return found


def interrupted(host: Host, name: str, seed: int, step: int) -> tuple[str | None, bool]:
    """(problem, whether a job is lost) of a job that is interrupted once it reports this step."""
    prompt_id = asyncio.run(interrupt_at(host, graph(name, seed, STEPS), step))
    try:
        history = jobs.wait(host, prompt_id, LONGEST_S)
    except TimeoutError:
        return "it is not in the history", True
    is_interrupted = bool(jobs.events(history, "execution_interrupted"))
    # A job may be through before the last interrupts reach it.
    is_through = history["status"]["status_str"] == "success" and step >= STEPS - 2
    return (None if is_interrupted or is_through else f"it ended as {history['status']}"), False


async def interrupt_at(host: Host, graph: dict, step: int) -> str:
    """Hand a graph in and interrupt it when the websocket tells of that step."""
    async with aiohttp.ClientSession() as session:
        address = f"{host.url}/ws"
        async with session.ws_connect(address, params={"clientId": "report"}) as socket:
            prompt_id = jobs.queue(host, graph, client_id="report")
            async with asyncio.timeout(LONGEST_S):
                async for message in socket:
                    if message.type != aiohttp.WSMsgType.TEXT:
                        continue
                    told = json.loads(message.data)
                    if told["type"] == "progress" and told["data"]["value"] >= step:
                        break
            async with session.post(f"{host.url}/interrupt", json={"prompt_id": prompt_id}):
                return prompt_id
