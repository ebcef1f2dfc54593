"""Fine trajectories: what the pictures of a fit pass through on their way, and where they end.

They are most of a fit's work. Each batch of them is written to the work folder when it is done, so
a fit that was stopped goes on from there. On disk and in memory they take what `cache_bytes` says.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from ...checkpoints.convert.disk import atomic_write
from ...schedules import SCHEDULES
from ..runge_kutta import SOLVERS, model_calls
from .pictures import Pictures, Sets

FINE_STEPS = 60  # uniform in sigma; the steps of a fitted solver lead from one of them to another
FINE_SOLVER = "rk4_classic"
FINE_CALLS = model_calls(FINE_SOLVER, FINE_STEPS) or 0
TRUTH = f"{FINE_SOLVER}, {FINE_STEPS} uniform steps"
FINE_SIGMAS = tuple(SCHEDULES["uniform"](FINE_STEPS).tolist())


@dataclass(frozen=True)
class Fine:
    """The fine solution of the pictures to fit and to choose by.

    states: (F, FINE_STEPS + 1, C, H, W) in float16, of those to fit by. slopes: theirs, of all
    states but the last. ends: (N, C, H, W) in float32, of both.
    """

    states: Tensor
    slopes: Tensor
    ends: Tensor


def cache_bytes(noise: Tensor, sets: Sets) -> int:
    """What the trajectories take on disk and again in memory."""
    numbers = noise[0].numel()
    return numbers * (2 * sets.fit * (2 * FINE_STEPS + 1) + 4 * sets.total)


def fine_trajectories(pictures: Pictures, sets: Sets, folder: Path) -> Fine:
    """Those in `folder`, and what is not there yet drawn and written there."""
    parts = [
        *pictures.parts(range(sets.fit)),
        *pictures.parts(range(sets.fit, sets.fit + sets.choose)),
    ]
    found = [_batch(pictures, p, folder, keeps_states=p.start < sets.fit) for p in parts]
    kept = found[: len(list(pictures.parts(range(sets.fit))))]
    states, slopes = (torch.cat([item[key] for item in kept]) for key in ("states", "slopes"))
    return Fine(states, slopes, torch.cat([item["ends"] for item in found]))


def fine_ends(pictures: Pictures, rows: range, folder: Path) -> Tensor:
    """Where the pictures of these rows end (n, C, H, W), drawn and kept as above."""
    parts = pictures.parts(rows)
    found = [_batch(pictures, part, folder, keeps_states=False) for part in parts]
    return torch.cat([item["ends"] for item in found])


def _batch(
    pictures: Pictures, part: slice, folder: Path, *, keeps_states: bool
) -> dict[str, Tensor]:
    file = folder / f"trajectories-{part.start}-{part.stop}.safetensors"
    if file.exists():
        pictures.tick(FINE_CALLS * (part.stop - part.start))
        return load(file.read_bytes())
    content = _draw(pictures, part, keeps_states=keeps_states)
    with atomic_write(file) as opened:
        opened.write(save(content))
    return content


def _draw(pictures: Pictures, part: slice, *, keeps_states: bool) -> dict[str, Tensor]:
    states, slopes = list[Tensor](), list[Tensor]()

    def keep(step: dict[str, object]) -> None:
        x, denoised, sigma = (torch.as_tensor(step[key]) for key in ("x", "denoised", "sigma"))
        if not keeps_states:
            return
        states.append(x.to("cpu", torch.float16))
        slopes.append(((x - denoised) / sigma).to("cpu", torch.float16))

    sigmas = torch.tensor(FINE_SIGMAS)
    ends = pictures.drawn(part, SOLVERS[FINE_SOLVER], sigmas, keep).to("cpu", torch.float32)
    if not keeps_states:
        return {"ends": ends}
    states.append(ends.half())
    return {"ends": ends, "states": torch.stack(states, 1), "slopes": torch.stack(slopes, 1)}
