"""Pictures from a running ComfyUI, in Python: queue a graph, wait, download. Nothing to install.

python3 client.py http://127.0.0.1:8188 text-to-image.api.json "a blue square"
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any


def titled(graph: dict[str, Any], title: str) -> dict[str, Any]:
    """The first node that the editor shows under this title. Raises ValueError if none is."""
    for node in graph.values():
        if node["_meta"]["title"] == title:
            return node
    titles = ", ".join(node["_meta"]["title"] for node in graph.values())
    raise ValueError(f'The graph has no node with the title "{title}". It has: {titles}.')


def queue(url: str, graph: dict[str, Any], client_id: str = "") -> str:
    """Hand in a graph in API format: its id. Raises ValueError with ComfyUI's objections."""
    body = json.dumps({"prompt": graph, "client_id": client_id}).encode()
    try:
        with urllib.request.urlopen(f"{url}/prompt", body) as response:
            return json.load(response)["prompt_id"]
    except urllib.error.HTTPError as refusal:
        raise ValueError(f"ComfyUI refused the graph: {refusal.read().decode()}") from None


def wait(url: str, prompt_id: str) -> list[dict[str, str]]:
    """Wait for the graph to end: the pictures it saved. Raises RuntimeError otherwise."""
    return [picture for pictures in wait_by_node(url, prompt_id).values() for picture in pictures]


def wait_by_node(url: str, prompt_id: str) -> dict[str, list[dict[str, str]]]:
    """As `wait`, the pictures of each node."""
    while True:
        with urllib.request.urlopen(f"{url}/history/{prompt_id}") as response:
            history = json.load(response)
        if prompt_id in history:
            break
        time.sleep(0.2)
    for kind, details in history[prompt_id]["status"]["messages"]:
        if kind == "execution_error":
            raise RuntimeError(f"{details['node_type']}: {details['exception_message']}")
        if kind == "execution_interrupted":
            raise RuntimeError("The run was interrupted before the picture was there.")
    outputs = history[prompt_id]["outputs"].items()
    return {node: output.get("images", []) for node, output in outputs}


def download(url: str, picture: dict[str, str]) -> bytes:
    """One of the pictures that `wait` returned, as the bytes of its file."""
    with urllib.request.urlopen(f"{url}/view?{urllib.parse.urlencode(picture)}") as response:
        return response.read()


if __name__ == "__main__":
    address, graph_file, prompt = sys.argv[1:]
    graph = json.loads(Path(graph_file).read_text())
    titled(graph, "Prompt")["inputs"]["text"] = prompt
    for picture in wait(address, queue(address, graph)):
        Path(picture["filename"]).write_bytes(download(address, picture))
        print(picture["filename"])
