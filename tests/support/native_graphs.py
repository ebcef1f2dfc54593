"""Graphs and helpers for the tests of ComfyUI's own nodes on this MODEL and CLIP."""

import torch

from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE
from lumina_next.tools import environment

OTHER = tiny.conditioning(11, seed=3)
GUIDANCE = 4.0
DEMO_VAE = environment.ROOT / "demo" / "models" / "vae" / "lumina-next-demo.safetensors"


def load(name="native.safetensors"):
    return node(
        "LuminaNextModelLoader", model_name=name, weight_dtype="default", latent_format="SDXL"
    )


def empty(height=16, width=12, batch=1):
    return {"samples": torch.zeros(batch, 4, height, width)}


def sample(model, positive=POSITIVE, negative=NEGATIVE, latent=None, **settings):
    """KSampler's latent; by default three steps of Euler at guidance 4 from an empty latent."""
    settings = {
        "seed": 7, "steps": 3, "cfg": GUIDANCE, "sampler_name": "euler", "scheduler": "normal",
        "denoise": 1.0, **settings,
    }  # fmt: skip
    out = node(
        "KSampler",
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent or empty(),
        **settings,
    )
    return out["samples"]


def guess(model, positive=POSITIVE, negative=NEGATIVE, cfg=1.0):
    """The model's guess of the picture from pure noise."""
    return sample(model, positive, negative, steps=1, cfg=cfg)


def guided(wanted, unwanted, strength=GUIDANCE):
    """Classifier-free guidance as the released code does it: on three of the four channels."""
    out = unwanted + strength * (wanted - unwanted)
    return torch.cat([out[:, :3], wanted[:, 3:]], dim=1)


def advanced(model, start, end, latent=None, positive=POSITIVE, *, noise, leftover, steps=4):
    """KSamplerAdvanced from step `start` to step `end` of `steps`."""
    yes_no = {True: "enable", False: "disable"}
    return node(
        "KSamplerAdvanced",
        model=model, positive=positive, negative=NEGATIVE, latent_image=latent or empty(),
        add_noise=yes_no[noise], return_with_leftover_noise=yes_no[leftover], noise_seed=7,
        steps=steps, cfg=GUIDANCE, sampler_name="euler", scheduler="normal",
        start_at_step=start, end_at_step=end,
    )  # fmt: skip


def differs(found, other):
    """Whether two latents are visibly different: by a hundredth of the spread, on average."""
    return bool((found - other).abs().mean() > 0.01 * other.std())
