"""Train the demo model from nothing: tokenizer, text encoder and Next-DiT.

    python -m demo.training.train_autoencoder   first, the autoencoder whose latents this learns
    python -m demo.training.next_dit            then this; a stopped run goes on where it was
    python -m demo.training.train_autoencoder --decoder-only --minutes 12   last, sharper pictures

The network is a true Next-DiT (grouped-query attention, qk-norm, the 2B's head size of 72) and the
text encoder a true Gemma-1, both small, trained together on the scenes of scenes/drawing.py with
rectified flow: the velocity from noise (t = 0) to picture (t = 1), t drawn from a logistic-normal
distribution, one caption in ten left empty for classifier-free guidance. What is saved is the
average of the weights, in the formats users have: native bfloat16 safetensors, the tokenizer in the
text encoder's file.
"""

import argparse
import copy
import hashlib
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumina.checkpoints.key_names import to_file_keys
from lumina.config import NextDiTConfig
from lumina.model.layers import HeadGate
from lumina.model.next_dit import NextDiT
from lumina.text_encoders.config import DecoderConfig
from lumina.text_encoders.decoder import Decoder

from .. import FOLDER
from ..evaluation.generate import MODELS, NAME
from ..scenes import drawing
from . import autoencoder
from .saving import save_state, save_weights
from .tokenizer import Tokenizer, known_words, train_tokenizer

CAPTION_DROPOUT = 0.1
CAPTION_TOKENS = 32  # always, as a compiled network wants; the longest caption has fewer
EMA_DECAY = 0.999
DIT = NextDiTConfig(dim=216, layers=8, heads=3, kv_heads=1, caption_dim=192, ffn_dim=576)


def gemma_config(vocab_size: int) -> DecoderConfig:
    """A Gemma-1 like the 2B: several query heads on one key and value head."""
    return DecoderConfig(
        family="gemma",
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=384,
        layers=4,
        heads=3,
        kv_heads=1,
        head_dim=64,
    )


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float, **rest: object
) -> Tensor:
    """Attention spelled out: on a CPU its backward pass is several times faster than the fused."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * scale
    return (scores if mask is None else scores + mask).softmax(-1).to(v.dtype) @ v


class Pair(nn.Module):
    """Text encoder and Next-DiT, trained as one."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.gemma = Decoder(gemma_config(vocab_size), attention=attention)
        self.dit = NextDiT(DIT, attention=attention)
        initialize(self)

    def forward(self, x: Tensor, t: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        caption = self.gemma(ids, mask)  # the state Lumina-Next reads is the default
        return self.dit(x, t, caption, mask)


def initialize(pair: Pair) -> None:
    """Xavier for matrices; gates, modulations and the output at zero, so that blocks do nothing."""
    for module in pair.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, HeadGate):
            nn.init.zeros_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=pair.gemma.config.hidden_size**-0.5)
    for name, parameter in pair.gemma.named_parameters():
        if "norm" in name:  # Gemma multiplies by 1 + weight
            nn.init.zeros_(parameter)
    final = pair.dit.final_layer
    for layer in [final.linear, final.adaLN_modulation[1]]:
        nn.init.zeros_(layer.weight)
    for block in pair.dit.layers:
        nn.init.zeros_(block.adaLN_modulation[1].weight)


def encoded_scenes(
    path: Path, count: int, size_px: int, vae: Path
) -> tuple[list[drawing.Scene], Tensor]:
    """`count` training scenes and their latents (count, 4, H, W), drawn once and kept in `path`."""
    rng = random.Random(1)
    drawn = [drawing.sample_training_scene(rng) for _ in range(count)]
    if path.exists():
        latents = torch.load(path, weights_only=True)
        if len(latents) == count:
            return drawn, latents
    encoder = autoencoder.load(vae).to(memory_format=torch.channels_last)
    latents, started = [], time.monotonic()
    for start in range(0, count, 50):
        pictures = np.stack([drawing.draw(s, size_px, rng) for s in drawn[start : start + 50]])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255  # channels last
            latents.append(encoder.encode(batch).half())
        if start % 2000 == 0:
            print(f"encoded {start} of {count}, {time.monotonic() - started:.0f} s", flush=True)
    latents = torch.cat(latents)
    save_state(latents, path)
    return drawn, latents


def batches(
    drawn: list[drawing.Scene], latents: Tensor, tokenizer: Tokenizer, size: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Random latents (B, 4, H, W), and ids and mask (B, CAPTION_TOKENS) of a caption for each."""
    rng = random.Random(seed)
    while True:
        chosen = [rng.randrange(len(drawn)) for _ in range(size)]
        captions = [
            "" if rng.random() < CAPTION_DROPOUT else drawing.caption(drawn[i], rng) for i in chosen
        ]
        ids, mask = tokenizer(captions)
        missing = (0, CAPTION_TOKENS - ids.shape[1])
        yield latents[chosen].float(), F.pad(ids, missing), F.pad(mask, missing)


def flow_loss(pair: Callable[..., Tensor], picture: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the velocity at a random time on the line from noise to picture."""
    t = torch.randn(len(picture)).sigmoid()
    noise = torch.randn_like(picture)
    x = torch.lerp(noise, picture, t[:, None, None, None])
    with torch.autocast("cpu", torch.bfloat16):
        velocity = pair(x, t, ids, mask)
    return (velocity.float() - (picture - noise)).square().mean()


class Trainer:
    """Steps, averaged weights and the checkpoint; time, not steps, is what a run is given."""

    def __init__(self, pair: Pair, learning_rate: float, seconds: float, checkpoint: Path) -> None:
        self.pair, self.average = pair, copy.deepcopy(pair).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            pair.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.learning_rate, self.seconds, self.checkpoint = learning_rate, seconds, checkpoint
        self.step, self.elapsed = 0, 0.0
        # Compiled, a step on a CPU takes a quarter of the time.
        self.network = torch.compile(pair, dynamic=False)
        if checkpoint.exists():
            self._restore(torch.load(checkpoint, weights_only=True))

    def run(self, data: Iterator[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Train until the time is used up, saving every two minutes."""
        self._step(*next(data))  # compiles
        last, saved, losses = time.monotonic(), time.monotonic(), []
        while self.elapsed < self.seconds:
            losses.append(self._step(*next(data)))
            now = time.monotonic()
            self.elapsed, last = self.elapsed + now - last, now
            if self.step % 100 == 0:
                mean = sum(losses[-100:]) / len(losses[-100:])
                print(f"{self.elapsed:7.0f} s  step {self.step:6d}  loss {mean:.4f}", flush=True)
            if now - saved > 120:
                self.save()
                saved = now
        self.save()

    def _step(self, picture: Tensor, ids: Tensor, mask: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * self._schedule()
        loss = flow_loss(self.network, picture, ids, mask)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.pair.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.pair.parameters()), 1 - decay
        )
        return loss.item()

    def _schedule(self) -> float:
        """Warm-up over 200 steps, then a cosine down to zero at the end of the time."""
        warm_up = min(1.0, (self.step + 1) / 200)
        return warm_up * 0.5 * (1 + math.cos(math.pi * min(1.0, self.elapsed / self.seconds)))

    def save(self) -> None:
        state = {
            "pair": self.pair.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        save_state(state, self.checkpoint)

    def _restore(self, state: dict) -> None:
        self.pair.load_state_dict(state["pair"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"going on from step {self.step}, {self.elapsed:.0f} s", flush=True)


def export(pair: Pair, spiece: bytes, size_px: int, folder: Path) -> None:
    """Save both models as users have them: bfloat16, released names, tokenizer inside."""
    dit = to_file_keys({k: v.bfloat16() for k, v in pair.dit.state_dict().items()})
    gemma = {f"model.{k}": v.bfloat16() for k, v in pair.gemma.state_dict().items()}
    gemma["spiece_model"] = torch.frombuffer(bytearray(spiece), dtype=torch.uint8)
    about = {"trained_size_px": str(size_px)}
    about_gemma = {**about, "config": json.dumps(known_words().to_config())}
    for kind, state_dict, metadata in [
        ("diffusion_models", dit, about),
        ("text_encoders", gemma, about_gemma),
    ]:
        target = folder / kind / NAME
        save_weights(state_dict, target, metadata)
        print(f"saved {kind}/{NAME}, {target.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=43, help="of training, all runs together")
    parser.add_argument("--scenes", type=int, default=16_000, help="pictures to learn from")
    parser.add_argument("--size", type=int, default=128, help="side of a picture in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--checkpoints", type=Path, default=FOLDER / "checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    spiece = train_tokenizer()
    tokenizer = Tokenizer(spiece)
    vae = args.models / "vae" / NAME
    digest = hashlib.sha256(vae.read_bytes()).hexdigest()[:8]  # another VAE, other latents
    encoded = args.checkpoints / f"latents-{args.size}-{digest}.pt"
    drawn, latents = encoded_scenes(encoded, args.scenes, args.size, vae)
    pair = Pair(len(tokenizer))
    trainer = Trainer(pair, args.learning_rate, 60 * args.minutes, args.checkpoints / "pair.pt")
    trainer.run(batches(drawn, latents, tokenizer, args.batch, seed=trainer.step))
    export(trainer.average, spiece, args.size, args.models)


if __name__ == "__main__":
    main()
