"""Train the demo model's autoencoder.

    python -m demo.training.train_autoencoder

With --decoder-only the encoder of that file stays as it is, so that latents, and a diffusion model
trained on them, keep their meaning while pictures get sharper.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import FOLDER
from ..scenes.drawing import (
    PLACES,
    Scene,
    draw,
    sample_held_out_scene,
    sample_scene,
    sample_training_scene,
)
from .autoencoder import LATENT_LIMIT, SDXL_SCALE, SHIPPED, Autoencoder, ResidualBlock, load
from .saving import save_state, save_weights


@dataclass(frozen=True)
class Recipe:
    """How the autoencoder is trained; the picture sizes are in pixels."""

    minutes: float = 34.0
    size: int = 128
    crop: int = 64
    # Crops teach edges and colors at a fraction of the cost; whole pictures come last.
    crop_until: float = 0.7
    crop_batch: int = 8
    batch: int = 4
    learning_rate: float = 1e-3
    warmup: float = 0.02
    ema: float = 0.995
    latent_noise: float = 0.15
    tinted: float = 0.5
    seed: int = 0


class Pictures:
    """Drawn pictures kept as bytes: most at the working size, some at twice that.

    Half of them are training scenes; the other half have something at every place, because plain
    background teaches an autoencoder little.
    """

    def __init__(self, size: int, rng: random.Random, count: int = 2400, large: int = 300) -> None:
        self.sets = tuple(
            np.stack([draw(self._scene(rng), side, rng) for _ in range(drawn)])
            for side, drawn in ((size, count), (2 * size, large))
        )
        self.rng = rng

    @staticmethod
    def _scene(rng: random.Random) -> Scene:
        full = rng.random() < 0.5
        return sample_scene(rng, len(PLACES)) if full else sample_training_scene(rng)

    def batch(self, count: int, crop: int, tinted: float = 0.0) -> Tensor:
        """(count, 3, crop, crop) in [0, 1]: random windows, mirrored, a part of them tinted."""
        windows = np.stack([self._window(crop) for _ in range(count)])
        pictures = torch.from_numpy(windows).permute(0, 3, 1, 2).float() / 255
        # Scenes are mostly gray; without large colored areas, hues take far longer to learn.
        strength = torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < tinted)
        pictures = pictures.lerp(torch.rand(count, 3, 1, 1), strength)
        flips = [axis for axis in (2, 3) if self.rng.random() < 0.5]
        return pictures.flip(flips).contiguous(memory_format=torch.channels_last)

    def _window(self, crop: int) -> np.ndarray:
        pictures = self.sets[self.rng.random() < 0.2]
        top, left = (self.rng.randint(0, pictures.shape[1] - crop) for _ in range(2))
        return pictures[self.rng.randrange(len(pictures)), top : top + crop, left : left + crop]


def drawn_pictures(
    sample: Callable[[random.Random], Scene], count: int, size: int, seed: int = 1
) -> Tensor:
    """(count, 3, size, size) in [0, 1] of scenes that `sample` draws at random."""
    rng = random.Random(seed)
    drawn = np.stack([draw(sample(rng), size, rng) for _ in range(count)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255


def psnr_db(pictures: Tensor, rebuilt: Tensor) -> float:
    """Peak signal to noise of the mean squared error over all pictures, in dB."""
    return -10 * math.log10(F.mse_loss(rebuilt.clamp(0, 1), pictures).item())


def loss_of(autoencoder: Autoencoder, pictures: Tensor, noise: float) -> Tensor:
    """Rebuilding error plus what keeps the latents near N(0, 1) and inside the decoder's limit."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = autoencoder.taesd_encoder(pictures).float()
        # The diffusion model's latents are never exact: the decoder learns to forgive small errors.
        strength = noise * torch.rand(len(latents), 1, 1, 1)
        rebuilt = autoencoder.taesd_decoder(latents + strength * torch.randn_like(latents)).float()
    loss = _rebuilding_loss(rebuilt, pictures)
    return loss + _latent_penalty(latents) if latents.requires_grad else loss


def _rebuilding_loss(rebuilt: Tensor, pictures: Tensor) -> Tensor:
    error = rebuilt - pictures
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + 2 * error.square().mean() + 0.5 * edges


def _latent_penalty(latents: Tensor) -> Tensor:
    mean, variance = latents.mean((0, 2, 3)), latents.var((0, 2, 3))
    moments = mean.square() + (variance - 1).square()
    outside = F.relu(latents.abs() - 0.8 * LATENT_LIMIT).square().mean()
    return 0.01 * moments.mean() + 0.1 * outside


def learning_rate(progress: float, recipe: Recipe) -> float:
    """A short linear rise, then half a cosine down to 0 at progress 1."""
    rise = min(1.0, progress / recipe.warmup)
    return recipe.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def initialize(autoencoder: Autoencoder) -> None:
    """He's initialization, blocks as identities: without norms, signals must keep their size."""
    for module in autoencoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in autoencoder.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv[-1].weight)


class Training:
    """One run, bounded by time: its model, the average of its weights and how long it has run."""

    def __init__(
        self, recipe: Recipe, checkpoint: Path, keeping: Autoencoder | None = None
    ) -> None:
        """`keeping`: an autoencoder whose encoder and latents are not to change."""
        torch.manual_seed(recipe.seed)
        self.recipe, self.checkpoint, self.decoder_only = recipe, checkpoint, keeping is not None
        self.model = keeping or Autoencoder()
        if keeping is None:
            initialize(self.model)
        self.model.to(memory_format=torch.channels_last)
        self.model.taesd_encoder.requires_grad_(not self.decoder_only)
        self.model.taesd_decoder.requires_grad_(True)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), betas=(0.9, 0.99), weight_decay=1e-3
        )
        self.pictures = Pictures(recipe.size, random.Random(recipe.seed))
        self.seconds, self.step = 0.0, 0
        if checkpoint.exists():
            self._resume()

    def run(self) -> Autoencoder:
        """Trains until the time is spent; returns the averaged weights with normalized latents."""
        saved = self.seconds
        while (progress := self.seconds / (60 * self.recipe.minutes)) < 1:
            started = time.monotonic()
            loss = self._train_step(progress)
            self.seconds += time.monotonic() - started
            self.step += 1
            if self.step % 100 == 0:
                self._report(loss)
            if self.seconds - saved > 60:
                saved = self.seconds
                self._save_checkpoint()
        self._save_checkpoint()
        if not self.decoder_only:
            scenes = drawn_pictures(sample_training_scene, 512, self.recipe.size)
            normalize_latents(self.average, scenes)
        return self.average

    def _train_step(self, progress: float) -> float:
        recipe = self.recipe
        cropping = progress < recipe.crop_until
        size, count = (recipe.crop, recipe.crop_batch) if cropping else (recipe.size, recipe.batch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(progress, recipe)
        pictures = self.pictures.batch(count, size, recipe.tinted if cropping else 0.0)
        loss = loss_of(self.model, pictures, recipe.latent_noise)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._update_average()
        return loss.item()

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on the average follows closely, else the random start weighs on it for long.
        weight = 1 - min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        averaged, current = list(self.average.parameters()), list(self.model.parameters())
        trained = [(a, c) for a, c in zip(averaged, current, strict=True) if c.requires_grad]
        torch._foreach_lerp_(*map(list, zip(*trained, strict=True)), weight)

    def _report(self, loss: float) -> None:
        pictures = drawn_pictures(sample_held_out_scene, 16, self.recipe.size)
        quality = rebuilding_psnr_db(self.average, pictures)
        print(
            f"{self.seconds:6.0f} s  step {self.step:5d}  loss {loss:.4f}  psnr {quality:.2f} dB",
            flush=True,
        )

    def _save_checkpoint(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seconds": self.seconds,
            "step": self.step,
        }
        save_state(state, self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.seconds, self.step = state["seconds"], state["step"]


@torch.no_grad()
def rebuilding_psnr_db(autoencoder: Autoencoder, pictures: Tensor) -> float:
    """PSNR of pictures (B, 3, H, W) in [0, 1] sent through encoder and decoder, in dB."""
    with torch.autocast("cpu", torch.bfloat16):
        rebuilt = autoencoder.taesd_decoder(autoencoder.taesd_encoder(pictures))
    return psnr_db(pictures, rebuilt.float())


@torch.no_grad()
def normalize_latents(autoencoder: Autoencoder, pictures: Tensor) -> None:
    """Sets vae_scale and vae_shift so that `encode` gives mean 0 and standard deviation 1."""
    raw = torch.cat([autoencoder.taesd_encoder(part) for part in pictures.split(16)])
    autoencoder.vae_scale.fill_(SDXL_SCALE * raw.std())
    autoencoder.vae_shift.fill_(-raw.mean() / autoencoder.vae_scale)


def save(autoencoder: Autoencoder, path: str | os.PathLike) -> None:
    """Writes float16 safetensors; the two scalars stay float32, as rounding them shifts latents."""
    weights = {
        key: value if value.ndim == 0 else value.half()
        for key, value in autoencoder.state_dict().items()
    }
    save_weights(weights, Path(path))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model's autoencoder.")
    parser.add_argument("--minutes", type=float, default=Recipe.minutes)
    parser.add_argument("--size", type=int, default=Recipe.size, help="picture side in pixels")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the safetensors file to write")
    parser.add_argument("--decoder-only", action="store_true", help="keep the encoder of --out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="an unfinished run is continued from here",
    )
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    recipe = Recipe(minutes=chosen.minutes, size=chosen.size)
    name = "decoder.pt" if chosen.decoder_only else "autoencoder.pt"
    checkpoint = chosen.checkpoint or FOLDER / "checkpoints" / name
    keeping = load(chosen.out) if chosen.decoder_only else None
    autoencoder = Training(recipe, checkpoint, keeping).run()
    save(autoencoder, chosen.out)
    pictures = drawn_pictures(sample_held_out_scene, 200, recipe.size, seed=2)
    quality = rebuilding_psnr_db(load(chosen.out), pictures)
    print(f"wrote {chosen.out}: psnr {quality:.2f} dB on {len(pictures)} held-out scenes")


if __name__ == "__main__":
    main()
