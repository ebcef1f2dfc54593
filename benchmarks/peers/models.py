"""The same Next-DiT of random weights in five ways, each one call from latents to noise.

ours        the pack's MODEL in ComfyUI
diffusers   its LuminaNextDiT2DModel, and the same compiled
released    the released attention where flash-attn is missing, as older node packs run it: keys
            and values repeated for each head, and a mask that hides nothing; written for this
            from that description, the rest of the model is ours
floor       only a pass's matrix products, and attention with shared keys
"""

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from lumina.checkpoints import key_names
from lumina.config import PX_PER_LATENT, PX_PER_TOKEN, NextDiTConfig
from lumina.model.next_dit import NextDiT

CAPTION_TOKENS = 128
Call = Callable[[], object]


@dataclass(frozen=True)
class Inputs:
    """What a step gets: both prompts, the shorter one padded."""

    x: Tensor
    t: Tensor
    caption: Tensor
    mask: Tensor

    @classmethod
    def of(cls, size_px: int, config: NextDiTConfig) -> "Inputs":
        latent = size_px // PX_PER_LATENT
        mask = torch.ones(2, CAPTION_TOKENS, dtype=torch.long)
        mask[1, CAPTION_TOKENS // 8 :] = 0
        return cls(
            torch.randn(2, config.in_channels, latent, latent),
            torch.full((2,), 0.4),
            torch.randn(2, CAPTION_TOKENS, config.caption_dim),
            mask,
        )


def random_next_dit(config: NextDiTConfig, dtype: torch.dtype, **kit: object) -> NextDiT:
    network = NextDiT(config, dtype=dtype, **kit).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.02)
    return network


def ours(config: NextDiTConfig, dtype: torch.dtype, inputs: Inputs) -> Call:
    model = host_model(config, dtype).model
    return lambda: model.apply_model(
        inputs.x, 1 - inputs.t, c_crossattn=inputs.caption, attention_mask=inputs.mask
    )


def host_model(config: NextDiTConfig, dtype: torch.dtype) -> object:
    """A MODEL from a file of random weights, computing in `dtype`."""
    from lumina_next.host.model.loading import WEIGHT_DTYPES, load_model_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        save_file(key_names.to_file_keys(random_next_dit(config, dtype).state_dict()), path)
        choice = "bf16" if dtype == torch.bfloat16 else "default"
        return load_model_file(str(path), WEIGHT_DTYPES[choice], "SDXL")


def diffusers(config: NextDiTConfig, dtype: torch.dtype, inputs: Inputs) -> Call:
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    model = diffusers_network(config).to(dtype)
    side = inputs.x.shape[2] // 2
    rotation = get_2d_rotary_pos_embed_lumina(config.head_dim, 384, 384)[:side, :side]
    x, caption = inputs.x.to(dtype), inputs.caption.to(dtype)
    return lambda: model(
        x, inputs.t, caption, inputs.mask, rotation, cross_attention_kwargs={}, return_dict=False
    )


def diffusers_network(config: NextDiTConfig, sample_size: int = 128) -> nn.Module:
    """diffusers' own network, its weights not set. sample_size: trained side in latents."""
    from diffusers import LuminaNextDiT2DModel

    model = LuminaNextDiT2DModel(
        sample_size=sample_size,
        hidden_size=config.dim,
        num_layers=config.layers,
        num_attention_heads=config.heads,
        num_kv_heads=config.kv_heads,
        multiple_of=config.ffn_dim,  # it takes the next multiple of 8/3 of the width
        cross_attention_dim=config.caption_dim,
        qk_norm=True,
    )
    return model.eval().requires_grad_(False)


def compiled_diffusers(config: NextDiTConfig, dtype: torch.dtype, inputs: Inputs) -> Call:
    return torch.compile(diffusers(config, dtype, inputs), dynamic=False)


def released(config: NextDiTConfig, dtype: torch.dtype, inputs: Inputs) -> Call:
    network = random_next_dit(config, dtype, attention=attention_as_released)
    given = inputs.x.to(dtype), inputs.t, inputs.caption.to(dtype), inputs.mask
    return lambda: network(*given)


def attention_as_released(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float, **_: object
) -> Tensor:
    repeats = q.shape[1] // k.shape[1]
    if mask is None:
        mask = torch.ones(len(q), k.shape[2], dtype=torch.bool)[:, None, None]
    mask = mask.expand(-1, q.shape[1], q.shape[2], -1)
    k, v = (shared.repeat_interleave(repeats, dim=1) for shared in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def floor(config: NextDiTConfig, dtype: torch.dtype, inputs: Inputs) -> Call:
    """Each matrix once, over the tokens that it is for."""
    network = random_next_dit(config, dtype)
    tokens = (inputs.x.shape[2] * PX_PER_LATENT // PX_PER_TOKEN) ** 2
    rows = {
        features: torch.randn(2, tokens, features, dtype=dtype)
        for features in (config.dim, config.ffn_dim, network.x_embedder.in_features)
    }
    rows |= {config.caption_dim: torch.randn(2, CAPTION_TOKENS, config.caption_dim, dtype=dtype)}
    products = [
        functools.partial(layer, rows[layer.in_features])
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and "adaLN" not in name and layer.in_features in rows
    ]
    q = torch.randn(2, config.heads, tokens, config.head_dim, dtype=dtype)
    k = torch.randn(2, config.kv_heads, tokens, config.head_dim, dtype=dtype)
    attend = functools.partial(F.scaled_dot_product_attention, q, k, k, enable_gqa=True)

    def run() -> None:
        for product in products:
            product()
        for _ in range(config.layers):
            attend()

    return run


CONTENDERS: dict[str, Callable[[NextDiTConfig, torch.dtype, Inputs], Call]] = {
    "ours": ours,
    "diffusers": diffusers,
    "diffusers, compiled": compiled_diffusers,
    "released": released,
    "floor": floor,
}
