"""Pictures from the demo model in plain torch, many captions at once.

The same mathematics as in ComfyUI: schedules and solvers of `lumina`, classifier-free guidance on
three of the four latent channels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from lumina.checkpoints.loading import load_next_dit
from lumina.config import PX_PER_LATENT
from lumina.model.caption import padding_mask
from lumina.options.guidance import RELEASED_CHANNELS, on_channels
from lumina.options.run import RunSettings
from lumina.options.step import Step
from lumina.schedules import SCHEDULES
from lumina.solvers.runge_kutta import SOLVERS, Solver
from lumina.text_encoders.weights import load_decoder

from .. import FOLDER
from ..training import autoencoder
from ..training.tokenizer import Tokenizer

MODELS = FOLDER / "models"
NAME = "lumina-next-demo.safetensors"
UNSET = RunSettings()


class Demo:
    """Text encoder, Next-DiT and autoencoder of the demo model, in float32."""

    def __init__(self, models: Path = MODELS) -> None:
        text = load_file(models / "text_encoders" / NAME)
        self.tokenizer = Tokenizer(text["spiece_model"].numpy().tobytes())
        self.gemma = load_decoder(text, dtype=torch.float32)
        self.dit = load_next_dit(models / "diffusion_models" / NAME, dtype=torch.float32)
        self.vae = autoencoder.load(models / "vae" / NAME)

    def draw(self, captions: list[str], *, size_px: int = 128, **run: object) -> np.ndarray:
        """One picture for each caption: uint8 RGB (B, size_px, size_px, 3). run: as `latents`."""
        side = size_px // PX_PER_LATENT
        return self.pictures(self.latents(captions, side, **run))

    @torch.inference_mode()
    def latents(
        self,
        captions: list[str],
        side: int,
        *,
        steps: int = 30,
        schedule: str = "uniform",
        solver: str | Solver = "euler",
        sigmas: Tensor | None = None,
        cfg: float = 4.0,
        seed: int = 0,
        settings: RunSettings = UNSET,
    ) -> Tensor:
        """Latents (B, 4, side, side) drawn from noise.

        steps: intervals of the schedule; `sigmas` stands for both. solver: a name or a function.
        """
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(captions), 4, side, side, generator=generator)
        model = self.denoiser(captions, cfg, settings)
        sigmas = SCHEDULES[schedule](steps) if sigmas is None else sigmas
        solve = SOLVERS[solver] if isinstance(solver, str) else solver
        return solve(model, noise, sigmas, disable=True)

    @torch.inference_mode()
    def pictures(self, latents: Tensor) -> np.ndarray:
        """Latents (B, 4, h, w) as uint8 RGB (B, 8h, 8w, 3)."""
        decoded = [self.vae.decode(part) for part in latents.split(10)]
        return (torch.cat(decoded).permute(0, 2, 3, 1) * 255).round().byte().numpy()

    def denoiser(
        self, captions: list[str], cfg: float, settings: RunSettings
    ) -> Callable[[Tensor, Tensor], Tensor]:
        ids, mask = self.tokenizer([*captions, *[""] * len(captions)])
        caption, mask = self.gemma(ids, mask), padding_mask(mask)

        def denoised(x: Tensor, sigma: Tensor) -> Tensor:
            options = settings.forward_options(self._step(x, sigma))
            velocity = self.dit(x.repeat(2, 1, 1, 1), (1 - sigma).repeat(2), caption, mask, options)
            prompt, empty = velocity.chunk(2)
            guided = on_channels(empty + cfg * (prompt - empty), prompt, RELEASED_CHANNELS)
            return x + sigma[:, None, None, None] * guided

        return denoised

    def _step(self, x: Tensor, sigma: Tensor) -> Step:
        config = self.dit.config
        height, width = (side // config.patch_size for side in x.shape[-2:])
        rows, columns = (torch.arange(n, dtype=torch.float32) for n in (height, width))
        frame = (height, width)
        return Step(sigma, rows, columns, frame, config.layers, config.head_dim, x.device)
