"""Small networks for the tests: weights under the released names, as they are and quantized."""

import torch

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.checkpoints.architecture import NETWORKS
from lumina_next.lumina.config import FlagDiTConfig, NextDiTConfig

WEIGHTS = {"layers.0.w": torch.arange(6.0).view(2, 3), "layers.1.w": torch.ones(4)}


SIZES = {"dim": 32, "layers": 2, "heads": 4, "kv_heads": 2, "caption_dim": 24, "ffn_dim": 64}
TINY = NextDiTConfig(**SIZES)
TINY_FLAG_DIT = FlagDiTConfig(**SIZES)


def native_weights(config=TINY, device="cpu"):
    """Random weights of a model under the released names."""
    torch.manual_seed(0)
    shapes = key_names.to_file_keys(NETWORKS[type(config)](config, device="meta").state_dict())
    return {key: torch.randn(value.shape, device=device) for key, value in shapes.items()}


def quantized(weights):
    """A diffusers-style key scaled in 8 bits, in the older and the newer manner."""
    weights = dict(weights)
    for i, scale in enumerate(["scale_weight", "weight_scale"]):
        weight = weights.pop(f"layers.{i}.attention.wk.weight")
        weights[f"layers.{i}.attn1.to_k.weight"] = weight.to(torch.float8_e4m3fn)
        weights[f"layers.{i}.attn1.to_k.{scale}"] = torch.tensor(1.0)
    weights["layers.1.attn1.to_k.comfy_quant"] = torch.zeros(4, dtype=torch.uint8)
    weights["scaled_fp8"] = torch.empty(2, dtype=torch.float8_e4m3fn)
    return weights
