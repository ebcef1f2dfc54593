"""Pictures from the demonstration model in plain torch, many captions at once.

The same mathematics as the ComfyUI graph with KSampler euler / normal: uniform steps from noise
(t = 0) to picture (t = 1), classifier-free guidance on three of the four latent channels.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from lumina.checkpoints import load_next_dit
from lumina.gemma import load_gemma
from lumina.prompt import padding_mask

from . import autoencoder
from .tokenizer import Tokenizer

MODELS = Path(__file__).parent / "models"
NAME = "lumina-next-demo.safetensors"
GUIDED_CHANNELS = 3


class Demo:
    """Text encoder, Next-DiT and autoencoder of the shipped model, in float32."""

    def __init__(self, models: Path = MODELS) -> None:
        text = load_file(models / "text_encoders" / NAME)
        self.tokenizer = Tokenizer(text["spiece_model"].numpy().tobytes())
        self.gemma = load_gemma(text, dtype=torch.float32)
        self.dit = load_next_dit(models / "diffusion_models" / NAME, dtype=torch.float32)
        self.vae = autoencoder.load(models / "vae" / NAME)

    @torch.inference_mode()
    def draw(
        self,
        captions: list[str],
        *,
        size_px: int = 128,
        steps: int = 30,
        cfg: float = 4.0,
        seed: int = 0,
    ) -> np.ndarray:
        """One picture for each caption: uint8 RGB (B, size_px, size_px, 3)."""
        ids, mask = self.tokenizer([*captions, *[""] * len(captions)])
        caption = self.gemma(ids, mask)
        side = size_px // autoencoder.PIXELS_PER_LATENT
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(len(captions), 4, side, side, generator=generator)
        for i in range(steps):
            x = x + self._guided(x, i / steps, caption, padding_mask(mask), cfg) / steps
        pictures = self.vae.decode(x).permute(0, 2, 3, 1)
        return (pictures * 255).round().byte().numpy()

    def _guided(
        self, x: Tensor, t: float, caption: Tensor, mask: Tensor | None, cfg: float
    ) -> Tensor:
        both = torch.cat([x, x])
        velocity = self.dit(both, torch.full((len(both),), t), caption, mask)
        prompt, empty = velocity.chunk(2)
        guided = empty + cfg * (prompt - empty)
        return torch.cat([guided[:, :GUIDED_CHANNELS], prompt[:, GUIDED_CHANNELS:]], dim=1)
