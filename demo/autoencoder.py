"""The demonstration model's autoencoder: a small convolutional one, trained here on drawn scenes.

The file is in TAESD's layout (github.com/madebyollin/taesd: key names, 64 channels, 8 pixels to a
latent), which ComfyUI's own VAE loader reads. The layers and the training are ours.

The file's `vae_scale` and `vae_shift` define, as the host applies them, latent = encoder output /
vae_scale + vae_shift, and the SDXL latent format then hands the diffusion model latent * 0.13025.
Both are measured at the end of training so that the diffusion model's values have mean 0 and
standard deviation 1: vae_scale = 0.13025 * std, vae_shift = -mean / vae_scale.

    python -m demo.autoencoder

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
from safetensors.torch import load_file
from torch import Tensor, nn

from .saving import save_weights, write_whole
from .scenes import PLACES, Scene, draw, sample_held_out_scene, sample_scene, sample_training_scene

SDXL_SCALE = 0.13025
LATENT_CHANNELS = 4
PIXELS_PER_LATENT = 8
SHIPPED = Path(__file__).parent / "models" / "vae" / "lumina-next-demo.safetensors"
_WIDTH = 64
_LATENT_LIMIT = 3.0


class SoftLimit(nn.Module):
    """Bends values smoothly into +-3, so that a stray latent cannot blow the decoder up."""

    def forward(self, x: Tensor) -> Tensor:
        return _LATENT_LIMIT * torch.tanh(x / _LATENT_LIMIT)


class ResidualBlock(nn.Module):
    """Three convolutions beside a straight path, both of `_WIDTH` channels."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = (_conv(_WIDTH, _WIDTH) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


def _conv(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


def _blocks(count: int) -> list[nn.Module]:
    return [ResidualBlock() for _ in range(count)]


def _encoder() -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, _WIDTH), ResidualBlock()]
    for _ in range(3):
        layers += [_conv(_WIDTH, _WIDTH, stride=2, bias=False), *_blocks(3)]
    return nn.Sequential(*layers, _conv(_WIDTH, LATENT_CHANNELS))


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = [SoftLimit(), _conv(LATENT_CHANNELS, _WIDTH), nn.ReLU()]
    for _ in range(3):
        layers += [*_blocks(3), nn.Upsample(scale_factor=2), _conv(_WIDTH, _WIDTH, bias=False)]
    return nn.Sequential(*layers, ResidualBlock(), _conv(_WIDTH, 3))


class Autoencoder(nn.Module):
    """Pictures to the diffusion model's latents and back; attribute names are the file's keys."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd_encoder = _encoder()
        self.taesd_decoder = _decoder()
        self.register_buffer("vae_scale", torch.tensor(SDXL_SCALE))
        self.register_buffer("vae_shift", torch.tensor(0.0))

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 4, H/8, W/8), mean 0, deviation 1 over scenes."""
        latents = self.taesd_encoder(pictures) / self.vae_scale + self.vae_shift
        return latents * SDXL_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 4, h, w) as `encode` gives them -> pictures (B, 3, 8h, 8w) in [0, 1]."""
        raw = (latents / SDXL_SCALE - self.vae_shift) * self.vae_scale
        return self.taesd_decoder(raw).clamp(0, 1)


def load(path: str | os.PathLike) -> Autoencoder:
    """The autoencoder in a file, float32. Raises RuntimeError for missing or unknown keys."""
    autoencoder = Autoencoder()
    autoencoder.load_state_dict(load_file(path))
    return autoencoder.eval().requires_grad_(False)


def save(autoencoder: Autoencoder, path: str | os.PathLike) -> None:
    """Writes float16 safetensors; the two scalars stay float32, as rounding them shifts latents."""
    weights = {
        key: value if value.ndim == 0 else value.half()
        for key, value in autoencoder.state_dict().items()
    }
    save_weights(weights, Path(path))


@dataclass(frozen=True)
class Recipe:
    """How the autoencoder is trained; the picture sizes are in pixels."""

    minutes: float = 34.0
    size: int = 128
    crop: int = 64
    # Crops teach edges and colours at a fraction of the cost; whole pictures come last.
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
        # Scenes are mostly gray; without large coloured areas, hues take far longer to learn.
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
    outside = F.relu(latents.abs() - 0.8 * _LATENT_LIMIT).square().mean()
    return 0.01 * moments.mean() + 0.1 * outside


def learning_rate(progress: float, recipe: Recipe) -> float:
    """A short linear rise, then half a cosine down to 0 at progress 1."""
    rise = min(1.0, progress / recipe.warmup)
    return recipe.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def initialise(autoencoder: Autoencoder) -> None:
    """He's initialisation, blocks as identities: without norms, signals must keep their size."""
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
            initialise(self.model)
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
        """Trains until the time is spent; returns the averaged weights with normalised latents."""
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
            normalise_latents(self.average, scenes)
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
        write_whole(self.checkpoint, lambda unfinished: torch.save(state, unfinished))

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
def normalise_latents(autoencoder: Autoencoder, pictures: Tensor) -> None:
    """Sets vae_scale and vae_shift so that `encode` gives mean 0 and standard deviation 1."""
    raw = torch.cat([autoencoder.taesd_encoder(part) for part in pictures.split(16)])
    autoencoder.vae_scale.fill_(SDXL_SCALE * raw.std())
    autoencoder.vae_shift.fill_(-raw.mean() / autoencoder.vae_scale)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demonstration model's autoencoder.")
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
    checkpoint = chosen.checkpoint or Path(__file__).parent / "checkpoints" / name
    keeping = load(chosen.out) if chosen.decoder_only else None
    autoencoder = Training(recipe, checkpoint, keeping).run()
    save(autoencoder, chosen.out)
    pictures = drawn_pictures(sample_held_out_scene, 200, recipe.size, seed=2)
    quality = rebuilding_psnr_db(load(chosen.out), pictures)
    print(f"wrote {chosen.out}: psnr {quality:.2f} dB on {len(pictures)} held-out scenes")


if __name__ == "__main__":
    main()
