"""What step caches save and lose on the demo model: TeaCache, EasyCache and LazyCache.

    python -m benchmarks.caching --count 20

Each scene is drawn in ComfyUI, in this process, from the same noise without a cache and with each
setting in turn: KSampler, euler, normal, cfg 4. `passes` is the share of model passes whose layers
ran, `time` that of the processor's time of a run; `latents` the relative error against no cache.
The shares are of held-out scenes read back from the pictures. Prints a Markdown table and writes
benchmarks/results/caching.json.
"""

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from demo.evaluation.evaluate import Share, held_out_scenes
from demo.evaluation.generate import MODELS, NAME, Demo
from demo.scenes.drawing import main_caption
from demo.training.saving import write_json
from lumina.config import PX_PER_LATENT
from tools.in_process import import_comfyui, import_pack

RESULTS = Path(__file__).parent / "results" / "caching.json"
STEPS, CFG, SIDE_PX = 30, 4.0, 128

Cached = Callable[[object], object]


def import_host() -> None:
    """ComfyUI on the processor and the pack, both silent."""
    import_comfyui()
    import_pack()
    logging.getLogger().setLevel(logging.ERROR)
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)


def settings() -> dict[str, Cached]:
    """Each cache at each threshold, as a function from a MODEL to one that has it."""
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    from lumina_next.nodes.options.step_cache import StepCacheNode

    def tea(threshold: float) -> Cached:
        return lambda model: StepCacheNode.execute(model, threshold, 1.0, 0.0)[0]

    def other(node: object, threshold: float) -> Cached:
        return lambda model: node.execute(model, threshold, 0.15, 0.95, False)[0]

    named = {"none": lambda model: model}
    named |= {f"TeaCache {t:g}": tea(t) for t in (0.1, 0.2, 0.3, 0.5, 1.0)}
    for name, node in (("EasyCache", EasyCacheNode), ("LazyCache", LazyCacheNode)):
        named |= {f"{name} {t:g}": other(node, t) for t in (0.1, 0.2)}
    return named


@dataclass
class Runs:
    """What one setting did so far."""

    latents: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    passes: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the table; all but the setting are shares, from 0 to 1, or relative errors."""

    setting: str
    passes: float
    time: float
    latents: float
    attributes: float
    exact: float

    def __str__(self) -> str:
        shares = [f"{share:.1%}" for share in (self.passes, self.time, self.latents)]
        shares += [f"{share:.1%}" for share in (self.attributes, self.exact)]
        return f"| {' | '.join([self.setting, *shares])} |"


class Drawing:
    """The demo model in ComfyUI, and how often its layers run."""

    def __init__(self) -> None:
        from lumina_next.host.model.loading import load_model_file
        from lumina_next.host.text_encoders.loading import load_text_encoder_file

        self.model = load_model_file(str(MODELS / "diffusion_models" / NAME), {}, "SDXL")
        self.clip = load_text_encoder_file(str(MODELS / "text_encoders" / NAME), {})
        self.passes = 0
        first = self.model.model.diffusion_model.layers[0]
        first.attention.register_forward_pre_hook(self._count)
        self.negative = self._encoded("")

    def _count(self, *_: object) -> None:
        self.passes += 1

    def _encoded(self, text: str) -> object:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def draw(self, cached: Cached, caption: str, seed: int, runs: Runs) -> None:
        """One latent (1, 4, H, W), as the network has it, added to `runs`."""
        import nodes

        positive, side = self._encoded(caption), SIDE_PX // PX_PER_LATENT
        model, empty = cached(self.model), {"samples": torch.zeros(1, 4, side, side)}
        before, started = self.passes, time.process_time()
        (out,) = nodes.common_ksampler(
            model, seed, STEPS, CFG, "euler", "normal", positive, self.negative, empty
        )
        runs.seconds += time.process_time() - started
        runs.passes += self.passes - before
        runs.latents.append(self.model.model.latent_format.process_in(out["samples"]))


@torch.inference_mode()
def measured(count: int) -> list[Row]:
    """Every setting over the same scenes, one after another for each scene."""
    drawing, demo, caches = Drawing(), Demo(), settings()
    scenes = held_out_scenes(count // 2, 1, seed=7) + held_out_scenes(count // 2, 2, 7)
    runs = {name: Runs() for name in caches}
    drawing.draw(caches["none"], main_caption(scenes[0]), 0, Runs())  # what only a first run takes
    for seed, scene in enumerate(scenes):
        for name, cached in caches.items():
            drawing.draw(cached, main_caption(scene), seed, runs[name])
    base = runs["none"]
    exact = torch.cat(base.latents)
    rows = []
    for name, done in runs.items():
        latents = torch.cat(done.latents)
        share = Share.of(scenes, demo.pictures(latents))
        rows.append(
            Row(
                name,
                done.passes / base.passes,
                done.seconds / base.seconds,
                float((latents - exact).norm() / exact.norm()),
                share.right / share.attributes,
                share.exact / share.pictures,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="pictures for each setting")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    import_host()
    torch.set_num_threads(args.threads)
    rows = measured(args.count)
    print("| Cache, threshold | Passes | Time | Latents | Attributes | Exact |")
    print(f"|{' --- |' * 6}")
    print("\n".join(map(str, rows)))
    content = {"pictures": args.count, "steps": STEPS, "rows": [asdict(row) for row in rows]}
    write_json(RESULTS, content)


if __name__ == "__main__":
    main()
