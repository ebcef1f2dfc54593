"""How much of a step a layer does with its caption alone, which is the same in every step.

That is the norm of the caption, its keys with their norm and its values: what a run could compute
once and keep.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lumina.config import NEXT_DIT_2B_GQA
from lumina.model.next_dit import Block

from .models import Inputs, host_model
from .steps import Case, Spread, beside, timed_rounds, with_range

HEADER = "| Picture | dtype | Step, s | Caption, ms | Caption over step |"


@dataclass(frozen=True)
class Share:
    """Seconds of a step and of its caption's work, and their ratio in the same round."""

    case: Case
    rounds: int
    step_seconds: Spread
    caption_seconds: Spread
    caption_over_step: Spread

    def __str__(self) -> str:
        lowest, median, highest = (1000 * seconds for seconds in self.caption_seconds)
        cells = (
            f"{self.case.size_px} px",
            self.case.dtype,
            with_range(self.step_seconds),
            with_range((lowest, median, highest)),
            with_range(self.caption_over_step, ".2%"),
        )
        return f"| {' | '.join(cells)} |"


def caption_share(case: Case, repeats: int, minutes: float) -> Share:
    """Of our MODEL's step, both prompts; fewer rounds than `repeats` where time runs out.

    A round is a step and then the caption's work, whose weights the step has driven out of the
    processor's caches as the other layers do in a run.
    """
    torch.set_num_threads(case.threads)
    dtype = getattr(torch, case.dtype)
    config = replace(NEXT_DIT_2B_GQA, layers=case.layers)
    given = Inputs.of(case.size_px, config)
    model = host_model(config, dtype).model
    layers, caption = model.diffusion_model.layers, given.caption.to(dtype)
    calls = {
        "step": lambda: model.apply_model(
            given.x, 1 - given.t, c_crossattn=given.caption, attention_mask=given.mask
        ),
        "caption": lambda: [caption_work(layer, caption) for layer in layers],
    }
    rounds = list(timed_rounds(calls, case.threads, repeats, minutes))
    step_seconds, share = beside(rounds, "step", "caption")
    caption_seconds, _ = beside(rounds, "caption", "step")
    return Share(case, len(rounds), step_seconds, caption_seconds, share)


def caption_work(layer: Block, caption: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values (B, S, kv_heads * head_dim) that a layer makes of a caption."""
    attention, normed = layer.attention, layer.attention_y_norm(caption)
    return attention.ky_norm(attention.wk_y(normed)), attention.wv_y(normed)
