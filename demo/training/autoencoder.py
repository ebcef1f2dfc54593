"""The demo model's autoencoder: a small convolutional one, trained on drawn scenes.

The file is in TAESD's layout (github.com/madebyollin/taesd: key names, 64 channels, 8 pixels to a
latent), which ComfyUI's own VAE loader reads. The layers and the training are ours.

The file's `vae_scale` and `vae_shift` define, as the host applies them, latent = encoder output /
vae_scale + vae_shift, and the SDXL latent format then hands the diffusion model latent * 0.13025.
Both are measured at the end of training so that the diffusion model's values have mean 0 and
standard deviation 1: vae_scale = 0.13025 * std, vae_shift = -mean / vae_scale.
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import FOLDER

SDXL_SCALE = 0.13025
LATENT_CHANNELS = 4
SHIPPED = FOLDER / "models" / "vae" / "lumina-next-demo.safetensors"
_WIDTH = 64
LATENT_LIMIT = 3.0


class SoftLimit(nn.Module):
    """Bends values smoothly into +-3, so that a stray latent cannot blow the decoder up."""

    def forward(self, x: Tensor) -> Tensor:
        return LATENT_LIMIT * torch.tanh(x / LATENT_LIMIT)


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
