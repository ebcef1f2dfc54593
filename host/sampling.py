"""Sampling as KSampler does it, with Lumina-Next's schedules and solvers.

`lumina` gives sigmas and k-diffusion functions, which the host takes as they are; here they meet
its noise, masks, previews and batches. A `Plan` is one complete choice; `PRESETS` are good ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..lumina.schedules import SCHEDULES, truncate
from ..lumina.solvers.runge_kutta import SOLVERS, model_calls

Conditioning = list[list[object]]
Latent = dict[str, object]


@dataclass(frozen=True)
class Plan:
    """How a run goes from noise to picture. steps: intervals, one fewer than sigmas."""

    steps: int
    schedule: str
    solver: str
    schedule_parameters: Mapping[str, float] = field(default_factory=dict)
    solver_options: Mapping[str, float] = field(default_factory=dict)

    def sigmas(self, denoise: float = 1.0) -> Tensor:
        """(steps + 1,) from 1 to 0, or from below 1 where denoise is. See `schedules.truncate`."""
        schedule = SCHEDULES[self.schedule]
        return truncate(schedule, self.steps, denoise, **self.schedule_parameters)

    @property
    def model_calls(self) -> int | None:
        return model_calls(self.solver, self.steps)


# The released demos ask for 30 points: 29 steps, of two model calls each.
# By demo/results/sampling.json: euler and bosh3 gain from the sigmoid, midpoint loses by it.
PRESETS = {
    "Balanced": Plan(20, "sigmoid", "euler"),
    "Fast": Plan(10, "sigmoid", "euler"),
    "Best": Plan(15, "sigmoid", "bosh3"),
    "As released": Plan(29, "rational", "midpoint", {"shift": 4.0}),
}


def sampler(solver: str, options: Mapping[str, float]) -> comfy.samplers.KSAMPLER:
    """What SAMPLER carries in the editor."""
    return comfy.samplers.KSAMPLER(SOLVERS[solver], dict(options))


def sample(
    model: ModelPatcher,
    positive: Conditioning,
    negative: Conditioning,
    latent: Latent,
    *,
    plan: Plan,
    denoise: float,
    cfg: float,
    seed: int,
) -> tuple[Latent, Latent]:
    """LATENT after the run, and the picture that the model last expected, as SamplerCustom does it.

    Raises ValueError for a model that has no straight path from noise to picture.
    """
    check_flow(model)
    empty_latent_sizes = [latent.get(key) for key in EMPTY_LATENT_SIZES]
    image = comfy.sample.fix_empty_latent_channels(model, latent["samples"], *empty_latent_sizes)
    noise = comfy.sample.prepare_noise(image, seed, latent.get("batch_index"))
    last: dict[str, Tensor] = {}
    samples = comfy.sample.sample_custom(
        model,
        noise,
        cfg,
        sampler(plan.solver, plan.solver_options),
        plan.sigmas(denoise),
        positive,
        negative,
        image,
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, plan.steps, last),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    denoised = model.model.process_latent_out(last["x0"].cpu()) if last else samples
    return _with_samples(latent, samples), _with_samples(latent, denoised)


# What "Empty Latent Image" notes about a latent that fits no model yet; gone once it fits one.
EMPTY_LATENT_SIZES = ("downscale_ratio_spacial", "downscale_ratio_temporal")


def _with_samples(latent: Latent, samples: Tensor) -> Latent:
    kept = {key: value for key, value in latent.items() if key not in EMPTY_LATENT_SIZES}
    return {**kept, "samples": samples}


def check_flow(model: ModelPatcher) -> None:
    """Raise ValueError unless sigma runs from 1 to 0 for `model`, mixing noise and picture."""
    if not isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise ValueError(
            f"The MODEL is a {type(model.model).__name__}, which is no flow model: it knows no "
            "straight path from noise to picture. Lumina-Next's sampling is for Lumina-Next and "
            'other flow models; sample this one with "KSampler".'
        )
