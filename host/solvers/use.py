"""A fitted solver as SAMPLER and SIGMAS, and a word where a run is not what it was fitted to."""

import comfy.samplers
from torch import Tensor

from ...lumina.config import PX_PER_LATENT
from ...lumina.schedules import DENOISE, SCHEDULES, truncate
from ...lumina.solvers import SOLVERS
from ...lumina.solvers.fitted import Fitted, Setting, read_fitted
from ...lumina.solvers.fitting import CALLS
from ..notices import say, warn
from .files import find
from .setting import setting_of


class FittedSampler(comfy.samplers.KSAMPLER):
    """SAMPLER of a fitted solver. Says at each run in what it is another than was fitted to."""

    def __init__(self, fitted: Fitted, setting: Setting) -> None:
        super().__init__(fitted.solver)
        self.setting = setting

    def sample(
        self,
        model_wrap: object,
        sigmas: Tensor,
        extra_args: dict[str, object],
        callback: object,
        noise: Tensor,
        *rest: object,
        **named: object,
    ) -> Tensor:
        """As the host's samplers, after a look at the run."""
        self._tell_differences(model_wrap, noise)
        return super().sample(model_wrap, sigmas, extra_args, callback, noise, *rest, **named)

    def _tell_differences(self, guider: object, noise: Tensor) -> None:
        model, cfg = getattr(guider, "model_patcher", None), getattr(guider, "cfg", None)
        if model is None or cfg is None:
            return  # another pack's guider, which does not say
        height, width = (side * PX_PER_LATENT for side in noise.shape[-2:])
        try:
            differences = self.setting.differences(setting_of(model, cfg, width, height))
        except ValueError:
            differences = ["a model of another architecture"]
        if differences:
            warn(
                f"The solver was not fitted to this run: {', '.join(differences)}. It may draw "
                "less exactly than euler with the sigmoid schedule. Fit one to it, or use that."
            )


def load(name: str, calls: int, denoise: float, fallback: bool) -> tuple[object, Tensor]:
    """SAMPLER and SIGMAS of a solver in a file, or what is better than it.

    Raises ValueError or FileNotFoundError naming the file and what is wrong with it.
    """
    CALLS.check("calls", calls)
    content = read_fitted(find(name))
    return give(content.solver(calls, name), content.setting, denoise, fallback)


def explain_unusable(name: str) -> str | None:
    """Why a file cannot be used, as an error text; None if nothing is wrong with it."""
    try:
        read_fitted(find(name))
    except (ValueError, OSError) as error:
        return str(error)
    return None


def give(fitted: Fitted, setting: Setting, denoise: float, fallback: bool) -> tuple[object, Tensor]:
    """SAMPLER and SIGMAS of a fitted solver; the node says how good it is.

    fallback: give out euler with the sigmoid schedule where that was no worse on the report.
    """
    DENOISE.check("denoise", denoise)
    (say if fitted.is_better else warn)(described(fitted))
    if fallback and not fitted.is_better:
        sigmas = truncate(SCHEDULES["sigmoid"], fitted.solver.calls, denoise)
        return comfy.samplers.KSAMPLER(SOLVERS["euler"]), sigmas
    sigmas = fitted.solver.tail(denoise)
    if denoise < 1 and len(sigmas):
        start, steps = float(sigmas[0]), len(sigmas) - 1
        say(f"denoise {denoise:g} starts at the solver's noise level {start:.3g}: {steps} calls")
    return FittedSampler(fitted, setting), sigmas


def described(fitted: Fitted) -> str:
    """How far its pictures are off beside those of others, in two or three lines."""
    calls, rows = fitted.solver.calls, {"fitted": fitted.errors, **fitted.others}
    lines = [f"{calls} calls, error in the mean and of the worst picture:"]
    lines += [f"{name}: {item.mean:.4f}, {item.worst:.4f}" for name, item in rows.items()]
    if not fitted.is_better:
        lines.append("It is no better than euler with the sigmoid schedule: use that instead.")
    return "\n".join(lines)
