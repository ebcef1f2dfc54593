"""Jobs for a ComfyUI that answers HTTP: hand one in, wait for it, read what came of it."""

import copy
import itertools
import json
import time
import urllib.error
import urllib.request

from safetensors.torch import load_file

from lumina_next.demo import GRAPH

NAMES = {  # of the demo graph's nodes in the tests, by their titles; the file numbers them
    "Load Lumina-Next Model": "model",
    "Load Lumina-Next Text Encoder": "text_encoder",
    "Prompt": "positive",
    "Negative prompt": "negative",
    "Empty latent": "latent",
    "KSampler": "sampler",
    "Load VAE": "vae",
    "VAE Decode": "decode",
    "Save Image": "save",
}


def with_names(graph):
    """A graph in API format with its nodes called as `NAMES` says, links included."""
    names = {number: NAMES[node["_meta"]["title"]] for number, node in graph.items()}

    def renamed(value):
        return [names[value[0]], value[1]] if isinstance(value, list) else value

    return {
        names[number]: {**node, "inputs": {k: renamed(v) for k, v in node["inputs"].items()}}
        for number, node in graph.items()
    }


DEMO_GRAPH = with_names(json.loads(GRAPH.read_text()))
seeds = itertools.count(1000)  # no run is answered from the cache of another


def with_inputs(graph, **changes):
    """A copy of the graph with other inputs: `with_inputs(graph, sampler={"steps": 2})`."""
    graph = copy.deepcopy(graph)
    for name, inputs in changes.items():
        graph[name]["inputs"].update(inputs)
    return graph


def good_graph():
    """The demo's graph with two steps at 64 px, and a new seed: never answered from the cache."""
    sampler = {"steps": 2, "seed": next(seeds)}
    return with_inputs(DEMO_GRAPH, sampler=sampler, latent={"width": 64, "height": 64})


def post(server, path, body):
    """(status, answer) of the server; the answer is None where it sends none."""
    request = urllib.request.Request(server.url + path, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            status, text = response.status, response.read()
    except urllib.error.HTTPError as refused:
        status, text = refused.code, refused.read()
    return status, json.loads(text) if text else None


def queue(server, graph, **settings):
    """Hand a graph in: its id. settings: what else the request holds, such as `client_id`."""
    status, answer = post(server, "/prompt", {"prompt": graph, **settings})
    assert status == 200, answer
    return answer["prompt_id"]


def refusal(server, graph):
    """The objections to a graph that must be refused with 400, as {node: all its texts}."""
    status, answer = post(server, "/prompt", {"prompt": graph})
    assert status == 400, answer
    nodes = answer["node_errors"].items()
    return {name: " ".join(e["details"] for e in node["errors"]) for name, node in nodes}


def wait(server, prompt_id, timeout=120):
    """The history of a job once it has ended."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        history = server.get(f"/history/{prompt_id}")
        if prompt_id in history:
            return history[prompt_id]
        time.sleep(0.05)
    raise TimeoutError(f"{prompt_id} runs for {timeout} s. The log ends:\n{server.log_tail()}")


def wait_until(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def events(history, kind):
    """What the job's messages of that kind say."""
    return [details for name, details in history["status"]["messages"] if name == kind]


def run(server, graph, timeout=120, **settings):
    """The history of a graph that must succeed, within so many seconds."""
    history = wait(server, queue(server, graph, **settings), timeout)
    assert history["status"]["status_str"] == "success", events(history, "execution_error")
    return history


def error(server, graph):
    """The message of a graph that must fail while it runs, after its node: "KSampler: ..."."""
    history = wait(server, queue(server, graph))
    (details,) = events(history, "execution_error")
    return f"{details['node_type']}: {details['exception_message']}"


def saved_files(server, history, kind):
    """Paths of the pictures ("images") or latents ("latents") that a job saved."""
    outputs = history["outputs"].values()
    files = [file for output in outputs for file in output.get(kind, [])]
    return [server.output / file["subfolder"] / file["filename"] for file in files]


def saved_latent(server, history):
    """The latent that the graph's one SaveLatent wrote, as LATENT carries it."""
    (path,) = saved_files(server, history, "latents")
    return load_file(path)["latent_tensor"]
