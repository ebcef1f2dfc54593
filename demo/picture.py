"""`make demo`: start ComfyUI, queue the committed graph over HTTP, say where the PNG lies.

The graph and the requests are those a user of the API would write (text-to-image.api.json and
client.py); this adds the server, the settings from the command line and a line of progress.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from lumina.checkpoints.convert.disk import atomic_write
from tools.comfyui import Host
from tools.environment import host_directory
from tools.shell import shown

from . import FOLDER, GRAPH, client

OUTPUT = FOLDER / "output"


def main() -> None:
    arguments = parse_arguments()
    # Ended from outside, the host must be ended too: turn the signal into an ordinary exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    graph = with_settings(json.loads(GRAPH.read_text()), arguments)
    started = time.monotonic()
    print(f"Starting ComfyUI in {shown(host_directory())} with this pack", flush=True)
    with tempfile.TemporaryDirectory() as base, Host(Path(base), output=OUTPUT) as host:
        print(f"ComfyUI is ready after {time.monotonic() - started:.1f} s", flush=True)
        picture = make_picture(host, graph)
    if arguments.out:
        picture = moved(picture, arguments.out)
    print(f"Picture: {os.path.relpath(picture)}  ({time.monotonic() - started:.1f} s in all)")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.picture", description=__doc__)
    parser.add_argument("prompt", help="what the picture shows")
    parser.add_argument("--steps", type=int, help="sampling steps")
    parser.add_argument("--seed", type=int, help="which of the prompt's pictures")
    parser.add_argument("--width", type=int, help="in pixels, a multiple of 16")
    parser.add_argument("--height", type=int, help="in pixels, a multiple of 16")
    parser.add_argument("--out", type=Path, help="where to put the PNG (default: demo/output)")
    return parser.parse_args()


def with_settings(graph: dict, settings: argparse.Namespace) -> dict:
    """Fill the prompt and whatever else was given into the graph; the rest stays as committed."""
    client.titled(graph, "Prompt")["inputs"]["text"] = settings.prompt
    given = {name: value for name, value in vars(settings).items() if value is not None}
    for title in ("KSampler", "Empty latent"):
        inputs = client.titled(graph, title)["inputs"]
        inputs.update({name: value for name, value in given.items() if name in inputs})
    return graph


def make_picture(host: Host, graph: dict) -> Path:
    """Run the graph on the host: the PNG it saved."""
    try:
        (saved,) = client.wait(host.url, asyncio.run(queue_and_watch(host.url, graph)))
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{error}\nComfyUI's log ends:\n{host.log_tail()}")
    return host.output / saved["subfolder"] / saved["filename"]


async def queue_and_watch(url: str, graph: dict) -> str:
    """Queue the graph and print how far it is until it ends: its prompt id."""
    async with aiohttp.ClientSession() as session:
        # Connected before queueing, or the first messages would be missed.
        async with session.ws_connect(f"{url}/ws", params={"clientId": "demo"}) as socket:
            prompt_id = client.queue(url, graph, "demo")
            async for message in socket:
                if message.type != aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                if event["type"] in ("execution_success", "execution_error"):
                    break
                show(event, graph)
    return prompt_id


def show(event: dict, graph: dict) -> None:
    """One line per node that runs, and on a terminal its steps counted up on that line."""
    data = event["data"]
    if event["type"] == "executing" and data["node"]:
        print(f"  {graph[data['node']]['_meta']['title']}", flush=True)
    if event["type"] == "progress":
        ended = data["value"] == data["max"]
        if ended or sys.stdout.isatty():
            end = "\n" if ended else "\r"
            print(f"    step {data['value']} of {data['max']}", end=end, flush=True)


def moved(picture: Path, target: Path) -> Path:
    """Move the picture to `target`, which appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as file:
        file.write(picture.read_bytes())
    picture.unlink()
    return target


if __name__ == "__main__":
    main()
