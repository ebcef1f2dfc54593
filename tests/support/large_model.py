"""A model for the tests on a card: random, 500 MB in bfloat16, with layers as wide as the 2B's.

Small for a card, large enough to be seen in its memory. `started` runs a ComfyUI that has it.
"""

import contextlib
import dataclasses
import functools
import re
import threading
import time

import torch
from safetensors.torch import save_file

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.tests.support import jobs, tiny
from lumina_next.tests.support.folders import make_model_folders
from lumina_next.tools.comfyui import Host

# Heads of 72, four queries for each key, as in the 2B. Kernels for 8 bits need widths of 16 times
# something, which the tiny models' captions do not have.
CAPTION_DIM = 64
CONFIG = NextDiTConfig(
    dim=2304, layers=5, heads=32, kv_heads=8, caption_dim=CAPTION_DIM, ffn_dim=4096
)
MODEL, TEXT_ENCODER = "large.safetensors", "large-gemma.safetensors"
SIDE_PX, STEPS = 1024, 4
COMPILING_S = 900  # the first time, nothing being cached
MIB = 2**20
STATIC = "--disable-dynamic-vram"
LOADED = re.compile(r"Model loaded: patcher=(\w+) model=LuminaNext ram_mb=[\d.]+ vram_mb=([\d.]+)")
DTYPES = re.compile(r"model weight dtype (\S+), manual cast: (\S+)")


@functools.cache
def large_weights():
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for key, like in key_names.to_file_keys(NextDiT(CONFIG, device="meta").state_dict()).items():
        spread = 0.3 if like.ndim < 2 else like.shape[-1] ** -0.5
        center = float("norm" in key and key.endswith("weight"))
        value = center + spread * torch.randn(like.shape, generator=generator)
        weights[key] = value.to(torch.bfloat16)
    return weights


@functools.cache
def large_gemma():
    """transformers' model of tiny.py, with features as wide as the large model's captions."""
    from transformers import GemmaConfig, GemmaModel

    sizes = {**tiny.GEMMA_SIZES, "hidden_size": CAPTION_DIM, "intermediate_size": 2 * CAPTION_DIM}
    return tiny.randomized(GemmaModel, GemmaConfig(**sizes))


def write_large_text_encoder(server):
    family = dataclasses.replace(tiny.TEXT_FAMILIES["gemma"], model=large_gemma)
    save_file(family.tensors(), server.models / "text_encoders" / TEXT_ENCODER, family.metadata())


def size_mib():
    return sum(tensor.nbytes for tensor in large_weights().values()) / MIB


@dataclasses.dataclass(frozen=True)
class Card:
    """A ComfyUI on the card."""

    server: Host

    def free_mib(self):
        (device, *_) = self.server.get("/system_stats")["devices"]
        assert device["type"] == "cuda"
        return device["vram_free"] / MIB

    def draw(self, graph, timeout=120):
        """The latent that a graph saves, within so many seconds."""
        return jobs.saved_latent(self.server, jobs.run(self.server, graph, timeout))

    def log(self):
        return self.server.log_tail(10_000)

    def empty(self):
        """Drop all models and results; the memory that is free then."""
        jobs.post(self.server, "/free", {"unload_models": True, "free_memory": True})
        time.sleep(2)
        return self.free_mib()


@contextlib.contextmanager
def started(base, *arguments):
    """A Card with these options, after a first job: what CUDA itself needs is taken by then."""
    with Host(base, arguments=["--verbose", "DETAIL", *arguments]) as server:
        make_model_folders(server.models)
        tiny.write_models(server)
        tiny.write_gemma(server)
        write_large_text_encoder(server)
        save_file(large_weights(), server.models / "diffusion_models" / MODEL)
        jobs.run(server, tiny.graph())
        yield Card(server)


def large_graph(**changes):
    """Four steps of the large model at 1024 px; another seed each time is asked for by name."""
    graph = jobs.with_inputs(
        tiny.graph(MODEL, TEXT_ENCODER),
        empty={"width": SIDE_PX, "height": SIDE_PX, "batch_size": 1},
        sampler={"steps": STEPS, "seed": 3},
    )
    return jobs.with_inputs(graph, **changes)


def error(found, expected):
    """Root mean square of the difference over that of the expected."""
    assert found.isfinite().all()
    return ((found - expected).square().mean() / expected.square().mean()).sqrt().item()


@contextlib.contextmanager
def lowest(read, seconds=0.02):
    """A list whose only number is the lowest that `read` gave inside the block."""
    least, over = [read()], threading.Event()

    def watch():
        while not over.wait(seconds):
            least[0] = min(least[0], read())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield least
    finally:
        over.set()
        thread.join()


def report(record_property, name, mib):
    record_property(name, round(mib))
    print(f"{name}: {mib:.0f} MiB")
