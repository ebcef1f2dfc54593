"""Sampling as KSampler does it, with Lumina-Next's schedules and solvers.

`lumina` gives sigmas and k-diffusion functions, which the host takes as they are; here they meet
its noise, masks, previews and batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..lumina.config import PX_PER_LATENT
from ..lumina.parameters import Parameter
from ..lumina.schedules import SCHEDULES, truncate
from ..lumina.solvers import SOLVERS
from ..lumina.solvers.fitting import CALLS
from ..lumina.solvers.plans import PRESETS, Plan
from . import versions
from .choices import Choice, chosen
from .links import CONDITIONING, LATENT, MODEL, check_link
from .solvers.files import fitted_to
from .solvers.setting import setting_of
from .solvers.use import give

Conditioning = list[list[object]]
Latent = dict[str, object]


CUSTOM, FITTED = "Custom", "Fitted"
SEED = Parameter(
    0,
    0,
    2**64 - 1,
    "Number of the noise to start from. The same seed and settings give the same picture; another "
    "seed gives another one.",
)


@dataclass(frozen=True)
class FittedPlan:
    """The plan of a solver that is fitted to the model: known once the model is."""

    calls: int

    def run(
        self, model: ModelPatcher, cfg: float, latent: Tensor, denoise: float
    ) -> tuple[comfy.samplers.KSAMPLER, Tensor]:
        """Sampler and sigmas. Raises ValueError where no solver is fitted to this model."""
        height, width = (side * PX_PER_LATENT for side in latent.shape[-2:])
        found = fitted_to(setting_of(model, cfg, width, height))
        if found is None:
            raise ValueError(
                f'No solver is fitted to this MODEL, as the preset "{FITTED}" needs. Fit one with '
                '"Lumina-Next Fit Solver", or choose another preset.'
            )
        name, content = found
        return give(content.solver(self.calls, name), content.setting, denoise, fallback=True)


def plan(preset: Choice) -> Plan | FittedPlan:
    """The plan of a preset, of FITTED, or of CUSTOM's own steps, schedule and solver."""
    name, custom = chosen(preset, "preset", [*PRESETS, FITTED, CUSTOM])
    if name == FITTED:
        CALLS.check("preset.calls", custom["calls"])
        return FittedPlan(custom["calls"])
    if name != CUSTOM:
        return PRESETS[name]
    schedule, parameters = chosen(custom.get("schedule"), "preset.schedule", SCHEDULES)
    solver, options = chosen(custom.get("solver"), "preset.solver", SOLVERS)
    return Plan(custom["steps"], schedule, solver, parameters, options)


def sigmas(schedule: Choice, steps: int, denoise: float) -> Tensor:
    """What SIGMAS carries in the editor."""
    name, parameters = chosen(schedule, "schedule", SCHEDULES)
    return truncate(SCHEDULES[name], steps, denoise, **parameters)


def sampler(solver: Choice) -> comfy.samplers.KSAMPLER:
    """What SAMPLER carries in the editor."""
    return _sampler(*chosen(solver, "solver", SOLVERS))


def _sampler(solver: str, parameters: Mapping[str, float]) -> comfy.samplers.KSAMPLER:
    return comfy.samplers.KSAMPLER(SOLVERS[solver], dict(parameters))


def sample(
    model: ModelPatcher,
    positive: Conditioning,
    negative: Conditioning,
    latent: Latent,
    *,
    plan: Plan | FittedPlan,
    denoise: float,
    cfg: float,
    seed: int,
) -> tuple[Latent, Latent]:
    """LATENT after the run, and the picture that the model last expected, as SamplerCustom does it.

    Raises ValueError for a model that has no straight path from noise to picture, and for anything
    else in place of a link.
    """
    check_link(model, "model", MODEL)
    check_link(positive, "positive", CONDITIONING)
    check_link(negative, "negative", CONDITIONING)
    check_link(latent, "latent_image", LATENT)
    check_flow(model)
    empty_latent_sizes = {key: latent.get(key) for key in EMPTY_LATENT_SIZES}
    image = versions.fitted_latent(model, latent["samples"], empty_latent_sizes)
    if isinstance(plan, FittedPlan):
        run, levels = plan.run(model, cfg, image, denoise)
    else:
        run, levels = _sampler(plan.solver, plan.solver_parameters), plan.sigmas(denoise)
    noise = comfy.sample.prepare_noise(image, seed, latent.get("batch_index"))
    last: dict[str, Tensor] = {}
    samples = comfy.sample.sample_custom(
        model,
        noise,
        cfg,
        run,
        levels,
        positive,
        negative,
        image,
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, max(len(levels) - 1, 0), last),
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
