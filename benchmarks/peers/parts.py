"""What surrounds the steps: importing the pack, loading a file, what a MODEL adds to a call."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from lumina.checkpoints import key_names
from lumina.config import NEXT_DIT_2B_GQA, NextDiTConfig
from lumina.model.next_dit import NextDiT
from tools.in_process import import_comfyui, import_pack
from tools.shell import ROOT

from .memory import resident_bytes
from .models import Inputs, host_model

TINY = NextDiTConfig(dim=48, layers=24, heads=4, kv_heads=2, caption_dim=20, ffn_dim=64)
CALLS = 200


def median_of(measure: Callable[[], float], repeats: int) -> dict[str, float]:
    found = [measure() for _ in range(repeats)]
    return {"lowest": min(found), "median": statistics.median(found), "highest": max(found)}


def import_seconds() -> float:
    """The pack and its nodes on top of ComfyUI, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers.parts"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def timed_import() -> float:
    import_comfyui()
    # What main.py has imported before it comes to custom nodes.
    import comfy_api.latest  # noqa: F401
    import nodes  # noqa: F401
    import server  # noqa: F401

    start = time.process_time()
    pack = import_pack()
    extension = asyncio.run(pack.comfy_entrypoint())
    asyncio.run(extension.get_node_list())
    return time.process_time() - start


def loading(repeats: int) -> dict[str, object]:
    """A file of the 2B's true shapes in bfloat16: loaded as MODEL, and only read."""
    from lumina_next.host.model.loading import load_model_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "2b.safetensors"
        write_2b(path)
        before = resident_bytes()
        model = load_model_file(str(path), {}, "SDXL")
        held = resident_bytes() - before
        del model
        rounds = [
            (seconds(lambda: load_model_file(str(path), {}, "SDXL")), seconds(lambda: read(path)))
            for _ in range(repeats)
        ]
        return {
            "file_bytes": path.stat().st_size,
            "bytes_held_after_loading": held,
            "load_seconds": statistics.median(load for load, _ in rounds),
            "read_seconds": statistics.median(reading for _, reading in rounds),
            "load_over_read": statistics.median(load / reading for load, reading in rounds),
        }


def write_2b(path: Path) -> None:
    shapes = key_names.to_file_keys(NextDiT(NEXT_DIT_2B_GQA, device="meta").state_dict())
    save_file({key: torch.randn(t.shape, dtype=torch.bfloat16) for key, t in shapes.items()}, path)


def read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@torch.inference_mode()
def added_seconds(repeats: int) -> dict[str, float]:
    """What calling a MODEL with the pack's settings takes longer than its network, per call.

    24 layers, so narrow that the calls' own work is most of it.
    """
    from lumina_next.lumina.options.resolution import Resolution
    from lumina_next.lumina.options.run import RunSettings
    from lumina_next.lumina.rope.scaling import Scaling

    torch.set_num_threads(1)
    model = host_model(TINY, torch.float32).model
    given = Inputs.of(128, TINY)
    x, t, caption, mask = given.x, given.t, given.caption, given.mask
    settings = {"lumina_next": RunSettings(Resolution(64, Scaling("time_aware")))}
    network = NextDiT(replace(TINY)).eval().requires_grad_(False)

    def with_model(options: dict) -> None:
        model.apply_model(
            x, 1 - t, c_crossattn=caption, attention_mask=mask, transformer_options=dict(options)
        )

    ways = {
        "network": lambda: network(x, t, caption, mask),
        "model": lambda: with_model({}),
        "model_with_resolution": lambda: with_model(settings),
    }
    rounds = [{name: per_call(way) for name, way in ways.items()} for _ in range(repeats)]
    return {
        name: statistics.median(found[name] - found["network"] for found in rounds)
        for name in ("model", "model_with_resolution")
    }


def per_call(call: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - start) / CALLS


if __name__ == "__main__":
    print(timed_import())
