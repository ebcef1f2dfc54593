"""ComfyUI as a child process, with the models that the report's jobs use."""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lumina_next.tests.support import jobs, tiny
from lumina_next.tests.support.folders import make_model_folders
from lumina_next.tools.comfyui import PACK_NAME, Host

FAILING_LAYER = Path(__file__).with_name("failing_layer")
LORA = "tiny.safetensors"
numbers = itertools.count(1)


@contextmanager
def running(source: Path | None = None, arguments: Sequence[str] = ()) -> Iterator[Host]:
    """A host with the tiny models, a LoRA for them, and the node that makes a layer fail."""
    with tempfile.TemporaryDirectory(prefix="faults-") as base:
        packs = Path(base) / "custom_nodes"
        packs.mkdir()
        (packs / FAILING_LAYER.name).symlink_to(FAILING_LAYER, target_is_directory=True)
        allowed = ("--whitelist-custom-nodes", PACK_NAME, FAILING_LAYER.name)
        with Host(Path(base), source=source, arguments=["--cpu", *arguments, *allowed]) as host:
            make_model_folders(host.models)
            tiny.write_models(host)
            tiny.write_gemma(host)
            write_lora(host.models / "loras" / LORA)
            yield host


def write_lora(path: Path) -> None:
    """A LoRA that changes every picture of the tiny model."""
    key = "layers.0.attention.wq.weight"
    change = torch.full_like(tiny.weights()[key], 0.1)
    save_file({f"diffusion_model.{key.removesuffix('.weight')}.diff": change}, path)


def latent_graph(seed: int, prefix: str = "graph", **changes: dict[str, object]) -> dict:
    """The tiny model from prompt to saved latent, sampled anew each time. prefix: of its file.

    The empty latent is multiplied by a number never used before, so that the sampler's result is
    in no cache.
    """
    named = {"sampler": {"seed": seed, "latent_image": ["new", 0]}}
    named["save"] = {"filename_prefix": prefix}
    for name, inputs in changes.items():
        named[name] = named.get(name, {}) | inputs
    multiplied = {"samples": ["empty", 0], "multiplier": 1 + next(numbers) * 1e-6}
    new = {"class_type": "LatentMultiply", "inputs": multiplied}
    return {**jobs.with_inputs(tiny.graph(), **named), "new": new}


def latent(host: Host, graph: dict, **settings: object) -> Tensor:
    """What a graph that must succeed saves."""
    return jobs.saved_latent(host, jobs.run(host, graph, **settings))


def other_picture(host: Host, graph: dict, expected: Tensor, **settings: object) -> str | None:
    """What is wrong with a graph that must draw anew what it drew before; None if nothing."""
    history = jobs.run(host, graph, **settings)
    (cached,) = jobs.events(history, "execution_cached")
    if "sampler" in cached["nodes"]:
        return "the next job is answered from the cache, so it shows nothing"
    return None if jobs.saved_latent(host, history).equal(expected) else "another picture is drawn"
