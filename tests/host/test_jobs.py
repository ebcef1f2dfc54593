"""A running ComfyUI with jobs of ours: previews, interruption, memory given back, the next job.

Everything goes through HTTP and the websocket, as the editor does it.
"""

import asyncio
import io
import json
import struct
import time

import aiohttp
import numpy as np
import psutil
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.tests.support import jobs, tiny

PREVIEW = 1  # the first four bytes of a binary message; the next four name the picture's format
STEPS = 4


async def watched(server, graph, **settings):
    """(history, pictures) of a job: its previews as they come over the websocket."""
    pictures = []
    async with aiohttp.ClientSession() as session:
        address = f"{server.url}/ws"
        async with session.ws_connect(address, params={"clientId": "watcher"}) as socket:
            prompt_id = jobs.queue(server, graph, client_id="watcher", **settings)
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY:
                    pictures.append(message.data)
                elif json.loads(message.data)["type"].startswith("execution_"):
                    if json.loads(message.data)["type"] in ("execution_success", "execution_error"):
                        break
    return jobs.wait(server, prompt_id), pictures


def decoded(message):
    """A preview as floats (H, W, 3) in [0, 1]."""
    kind, _ = struct.unpack(">II", message[:8])
    assert kind == PREVIEW
    return np.asarray(Image.open(io.BytesIO(message[8:])).convert("RGB")) / 255


def latent_graph(server, **changes):
    """A tiny random model from prompt to saved latent."""
    tiny.write_models(server)
    tiny.write_gemma(server)
    return jobs.with_inputs(tiny.graph(), **changes)


def test_each_step_sends_a_preview_of_the_picture(server):
    import comfy.latent_formats

    size = {"width": 96, "height": 64, "batch_size": 1}
    graph = latent_graph(server, empty=size, sampler={"steps": STEPS, "seed": 11})
    settings = {"extra_data": {"preview_method": "latent2rgb"}}
    history, messages = asyncio.run(watched(server, graph, **settings))
    previews = [decoded(message) for message in messages]
    assert len(previews) == STEPS
    assert not np.array_equal(previews[0], previews[-1])

    # With Euler's rule the last guess is the picture itself.
    latent = jobs.saved_latent(server, history)[0] * tiny.SDXL_SCALE
    sdxl = comfy.latent_formats.SDXL()
    factors = torch.tensor(sdxl.latent_rgb_factors)
    colors = latent.movedim(0, -1) @ factors + torch.tensor(sdxl.latent_rgb_factors_bias)
    expected = ((colors + 1) / 2).clamp(0, 1)
    drawn = Image.fromarray((expected.numpy() * 255).astype(np.uint8))
    enlarged = np.asarray(drawn.resize((512, 341), Image.BILINEAR)) / 255  # the host's size
    assert previews[-1].shape == enlarged.shape
    assert np.abs(previews[-1] - enlarged).mean() < 0.02  # what JPEG costs


def is_running(server, prompt_id):
    running = server.get("/queue")["queue_running"]
    return any(job[1] == prompt_id for job in running)


def test_interrupted_job_stops_and_the_next_one_runs(server):
    endless = jobs.queue(server, latent_graph(server, sampler={"steps": 10_000, "seed": 12}))
    following = jobs.queue(server, latent_graph(server, sampler={"steps": 2, "seed": 13}))
    jobs.wait_until(lambda: is_running(server, endless))
    jobs.post(server, "/interrupt", {"prompt_id": endless})
    history = jobs.wait(server, endless)
    assert jobs.events(history, "execution_interrupted")
    assert jobs.wait(server, following)["status"]["status_str"] == "success"


def free(server):
    """Have the server drop models and results. It does so when idle, and does not say when."""
    jobs.post(server, "/free", {"unload_models": True, "free_memory": True})
    time.sleep(1)


def memory_mib(server):
    return psutil.Process(server.process_id).memory_info().rss / 2**20


def test_free_gives_the_memory_of_the_model_back(server):
    # Three tensors of 64 MiB: smaller ones may stay with the process for its next allocation.
    config = NextDiTConfig(dim=1024, layers=1, heads=8, kv_heads=8, caption_dim=24, ffn_dim=16384)
    weights = key_names.to_file_keys(NextDiT(config).state_dict())
    weights = {key: torch.full_like(tensor, 0.01) for key, tensor in weights.items()}
    file = server.models / "diffusion_models" / "large.safetensors"
    save_file(weights, file)
    changes = {"sampler": {"steps": 1, "seed": 15}, "model": {"model_name": file.name}}
    jobs.run(server, latent_graph(server, **changes))
    file.unlink()
    loaded = memory_mib(server)
    free(server)
    jobs.wait_until(lambda: memory_mib(server) < loaded - 150)


def test_freed_job_runs_again_from_the_files(server):
    graph = latent_graph(server, sampler={"steps": 1, "seed": 14})
    first, repeated = jobs.run(server, graph), jobs.run(server, graph)
    assert cached_nodes(repeated) == set(graph)
    free(server)
    again = jobs.run(server, graph)
    assert cached_nodes(again) == set()
    latents = jobs.saved_latent(server, again), jobs.saved_latent(server, first)
    assert_close(*latents, rtol=0, atol=0)


def test_another_seed_loads_and_encodes_nothing_again(server):
    jobs.run(server, latent_graph(server, sampler={"steps": 1, "seed": 16}))
    again = jobs.run(server, latent_graph(server, sampler={"steps": 1, "seed": 17}))
    kept = cached_nodes(again)
    assert {"model", "text", "prompt", "negative"} <= kept and "sampler" not in kept


def cached_nodes(history):
    (details,) = jobs.events(history, "execution_cached")
    return set(details["nodes"])
