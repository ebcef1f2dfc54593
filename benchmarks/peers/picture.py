"""The demo model's picture, from its prompt to its pixels, in ways that need no server.

ours         the pack's MODEL, CLIP and sampler and the host's VAE, in ComfyUI
plain torch  demo/evaluation/generate.py: the pack's networks without ComfyUI
diffusers    LuminaPipeline, with features of transformers' GemmaModel; its latent is decoded as in
             plain torch, since the pipeline cannot shift latents as this autoencoder asks for.
             As it is, and with its RoPE table kept: at each step it makes one of 384 x 384 tokens
             anew, which takes a model as small as this longer than all else

All take Euler steps at the same noise levels from the same noise, in float32.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from demo.evaluation.generate import MODELS, NAME, Demo
from lumina.checkpoints.key_names import NEXT_DIT_KEYS, to_file_keys
from lumina.config import PX_PER_LATENT
from lumina.model.next_dit import NextDiT
from lumina.schedules import SCHEDULES

from .models import diffusers_network
from .steps import Spread, beside, timed_rounds, with_range

PROMPT = "a red circle at the top left on a white background"
SEED, STEPS, CFG, SIDE_PX, SCHEDULE = 1, 30, 4.0, 128, "uniform"
SIDE = SIDE_PX // PX_PER_LATENT
PADDED_TO = 8  # tokens, a multiple of it, as LuminaPipeline pads
# Of the spread of a latent; rounding leaves 2e-6 of it after 30 steps.
TOLERANCE = 1e-4
HEADER = "| Way | Seconds | Ours over it |"


@dataclass(frozen=True)
class Drawn:
    """A latent (1, 4, H, W) as the network has it, and its picture, uint8 (1, 8H, 8W, 3)."""

    latent: Tensor
    picture: np.ndarray


@dataclass(frozen=True)
class PictureTiming:
    """Seconds of one way to draw, and its ratio to ours in the same round."""

    name: str
    rounds: int
    seconds: Spread
    ours_over_it: Spread

    def __str__(self) -> str:
        return f"| {self.name} | {with_range(self.seconds)} | {with_range(self.ours_over_it)} |"


def pictures(repeats: int, minutes: float) -> list[PictureTiming]:
    """Every way in turn, round by round, on one thread, models loaded before.

    Fewer rounds than `repeats` where time runs out. Raises ValueError if a way draws another
    picture than ours.
    """
    torch.set_num_threads(1)
    demo = Demo()
    pipeline = diffusers(demo)
    calls = {
        "ours": ours(),
        "plain torch": plain_torch(demo),
        "diffusers": pipeline,
        "diffusers, table kept": with_table_kept(pipeline),
    }
    with torch.inference_mode():
        check_same({name: draw() for name, draw in calls.items()})
    rounds = list(timed_rounds(calls, 1, repeats, minutes))
    return [PictureTiming(name, len(rounds), *beside(rounds, name, "ours")) for name in calls]


def check_same(drawn: dict[str, Drawn]) -> None:
    """Raise ValueError naming the ways whose latent or picture is not that of the first."""
    (first, expected), *others = drawn.items()
    for name, found in others:
        error = float((found.latent - expected.latent).abs().max() / expected.latent.std())
        levels = int(np.abs(found.picture.astype(int) - expected.picture).max())
        if not error < TOLERANCE or levels > 1:
            raise ValueError(
                f"{name} and {first} draw different pictures, so their times say nothing: latents "
                f"differ by {error:.1e} of their spread, pixels by {levels} of 255."
            )


def ours() -> Callable[[], Drawn]:
    import comfy.sd
    import comfy.utils

    from lumina_next.host.model.loading import load_model_file
    from lumina_next.host.sampling import Plan, sample
    from lumina_next.host.text_encoders.loading import load_text_encoder_file

    comfy.utils.set_progress_bar_enabled(False)
    model = load_model_file(str(MODELS / "diffusion_models" / NAME), {}, "SDXL")
    clip = load_text_encoder_file(str(MODELS / "text_encoders" / NAME), {})
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(MODELS / "vae" / NAME)))
    plan = Plan(STEPS, SCHEDULE, "euler")

    def draw() -> Drawn:
        prompts = (clip.encode_from_tokens_scheduled(clip.tokenize(t)) for t in (PROMPT, ""))
        empty = {"samples": torch.zeros(1, 4, SIDE, SIDE)}
        latent, _ = sample(model, *prompts, empty, plan=plan, denoise=1.0, cfg=CFG, seed=SEED)
        picture = (vae.decode(latent["samples"]) * 255).round().byte().numpy()
        return Drawn(model.model.latent_format.process_in(latent["samples"]), picture)

    return draw


def plain_torch(demo: Demo, steps: int = STEPS) -> Callable[[], Drawn]:
    def draw() -> Drawn:
        latent = demo.latents([PROMPT], SIDE, steps=steps, schedule=SCHEDULE, cfg=CFG, seed=SEED)
        return Drawn(latent, demo.pictures(latent))

    return draw


def diffusers(demo: Demo, steps: int = STEPS) -> Callable[[], Drawn]:
    from diffusers import FlowMatchEulerDiscreteScheduler, LuminaPipeline

    pipeline = LuminaPipeline(
        transformer=with_weights_of(demo.dit, diffusers_network(demo.dit.config, SIDE)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=None,
        text_encoder=None,
        tokenizer=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    gemma = transformers_gemma(demo)

    def draw() -> Drawn:
        features, mask = padded_features(demo, gemma, [PROMPT, ""])
        (latent,) = pipeline(
            prompt_embeds=features[:1],
            prompt_attention_mask=mask[:1],
            negative_prompt_embeds=features[1:],
            negative_prompt_attention_mask=mask[1:],
            width=SIDE_PX,
            height=SIDE_PX,
            guidance_scale=CFG,
            sigmas=SCHEDULES[SCHEDULE](steps)[:-1].tolist(),
            latents=torch.randn(1, 4, SIDE, SIDE, generator=torch.manual_seed(SEED)),
            output_type="latent",
            return_dict=False,
        )
        return Drawn(latent, demo.pictures(latent))

    return draw


def with_table_kept(draw: Callable[[], Drawn]) -> Callable[[], Drawn]:
    """A way of diffusers' pipeline that makes each RoPE table once and keeps it."""
    from diffusers.pipelines.lumina import pipeline_lumina

    name = "get_2d_rotary_pos_embed_lumina"
    table = functools.cache(getattr(pipeline_lumina, name))

    def draw_with_it() -> Drawn:
        with mock.patch.object(pipeline_lumina, name, table):
            return draw()

    return draw_with_it


def with_weights_of(network: NextDiT, other: nn.Module) -> nn.Module:
    """diffusers' network with the weights of ours, float32."""
    native = to_file_keys(network.state_dict())
    names = {name: NEXT_DIT_KEYS(name) for name in other.state_dict()}
    # What has no native name is not used: it pads pictures of different sizes.
    weights = {name: native[key] for name, key in names.items() if key is not None}
    other.load_state_dict(other.state_dict() | weights)
    return other


def transformers_gemma(demo: Demo) -> nn.Module:
    """transformers' GemmaModel with the demo's text encoder, float32."""
    from transformers import GemmaConfig, GemmaModel

    sizes = demo.gemma.config
    model = GemmaModel(
        GemmaConfig(
            vocab_size=sizes.vocab_size,
            hidden_size=sizes.hidden_size,
            intermediate_size=sizes.intermediate_size,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            num_key_value_heads=sizes.kv_heads,
            head_dim=sizes.head_dim,
            rms_norm_eps=sizes.norm_eps,
        )
    )
    file = load_file(MODELS / "text_encoders" / NAME)
    del file["spiece_model"]
    model.load_state_dict({name.removeprefix("model."): weight for name, weight in file.items()})
    return model.eval().requires_grad_(False)


def padded_features(demo: Demo, gemma: nn.Module, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Hidden state last but one (B, S, D) and mask (B, S)."""
    ids, mask = demo.tokenizer(prompts)
    more = -ids.shape[1] % PADDED_TO
    ids, mask = (nn.functional.pad(rows, (0, more)) for rows in (ids, mask))
    states = gemma(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    return states[-2], mask
