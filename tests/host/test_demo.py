"""The demo model in ComfyUI: its pictures show what was asked for, as in plain torch."""

import importlib
import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from lumina_next.demo import client
from lumina_next.demo.scenes import drawing, reading
from lumina_next.tests.support import jobs
from lumina_next.tests.support.tiny import SDXL_SCALE, assert_same_picture
from lumina_next.tools import environment

COUNT = 6


def held_out(things):
    rng = random.Random(11)
    return [drawing.sample_held_out_scene(rng, things) for _ in range(COUNT)]


def drawn(server, graph):
    """The picture a graph saves, as uint8 RGB (H, W, 3)."""
    (saved,) = client.wait(server.url, client.queue(server.url, graph))
    return np.asarray(Image.open(io.BytesIO(client.download(server.url, saved))).convert("RGB"))


def share_right(server, wanted, graph=jobs.DEMO_GRAPH):
    """Share of the attributes asked for that the pictures show."""
    scores = []
    for scene in wanted:
        prompt = {"text": drawing.main_caption(scene)}
        picture = drawn(server, jobs.with_inputs(graph, positive=prompt))
        scores.append(reading.score(scene, reading.read(picture)))
    right, total = (sum(part) for part in zip(*scores, strict=True))
    return right / total


@pytest.mark.parametrize("things", [1, 2])
def test_demo_graph_draws_what_is_asked_for(server, things):
    assert share_right(server, held_out(things)) >= 0.9


def test_fast_preset_of_our_sampler_draws_it_too(server):
    graph = jobs.with_inputs(jobs.DEMO_GRAPH)
    old = graph["sampler"]["inputs"]
    kept = ("model", "positive", "negative", "latent_image", "seed", "cfg", "denoise")
    graph["sampler"] = {
        "class_type": "LuminaNextSampler",
        "inputs": {**{name: old[name] for name in kept}, "preset": "Fast"},
    }
    assert share_right(server, held_out(1), graph) >= 0.9


def test_negative_prompt_is_avoided(server):
    """Guidance away from one of two things: what is left is the other."""
    graph = jobs.with_inputs(
        jobs.DEMO_GRAPH,
        positive={"text": "a red circle at the top left on a white background"},
        negative={"text": "a white background"},
    )
    found = reading.read(drawn(server, graph))
    assert [thing.place for thing in found.things] == ["top left"]


def test_plain_torch_draws_the_same(host, monkeypatch):
    monkeypatch.syspath_prepend(environment.ROOT)
    demo = importlib.import_module("demo.evaluation.generate").Demo()
    prompt = "a blue star in the center on a black background"
    expected = demo.latents([prompt], 16, steps=5, schedule="sigmoid", solver="midpoint", seed=3)

    from lumina_next.host.model import loading
    from lumina_next.host.sampling import Plan, sample
    from lumina_next.host.text_encoders.loading import load_text_encoder

    model = loading.load_model("lumina-next-demo.safetensors")
    clip = load_text_encoder("lumina-next-demo.safetensors")
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(t)) for t in (prompt, ""))
    empty = {"samples": torch.zeros(1, 4, 16, 16)}
    plan = Plan(5, "sigmoid", "midpoint")
    latent, _ = sample(model, positive, negative, empty, plan=plan, denoise=1.0, cfg=4.0, seed=3)
    assert_same_picture(latent["samples"] * SDXL_SCALE, expected)
