"""How a MODEL is guided: which channels, when, and with what kept in bounds.

The rules act after the host's own guidance, on the velocity that its denoised picture stands for,
so they compose with every sampler and with other guidance nodes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...lumina.options.guidance import (
    CHANNELS,
    PARAMETERS,
    on_channels,
    renormalized,
    rescaled,
)
from ...lumina.parameters import check_fields
from .settings import check_model

INTERVAL = "lumina_next_guidance_interval"


@dataclass(frozen=True)
class Guidance:
    """The loader's default is the released code's: three channels, always, nothing else.

    channels: which are guided, a name in CHANNELS. start, end: sigma from which and down to which
    cfg acts, outside it the prompt alone does. renorm: longest guided velocity, in lengths of the
    prompt's own; 0 is off. rescale: share of the spread brought back; 0 is off. zero_steps: first
    steps that leave the noise as it is (arXiv:2503.18886). Raises ValueError for a setting out of
    range, and for a start below the end.
    """

    channels: str = "released"
    start: float = PARAMETERS["start"].default
    end: float = PARAMETERS["end"].default
    renorm: float = PARAMETERS["renorm"].default
    rescale: float = PARAMETERS["rescale"].default
    zero_steps: int = PARAMETERS["zero_steps"].default

    def __post_init__(self) -> None:
        check_fields(PARAMETERS, self)
        if self.channels not in CHANNELS:
            raise ValueError(f'guidance acts on channels {list(CHANNELS)}, got "{self.channels}"')
        if self.end > self.start:
            raise ValueError(
                f"Guidance starts at a higher sigma than it ends, both from 1 (noise) to 0 "
                f"(picture); got start {self.start:g} and end {self.end:g}."
            )

    def __call__(self, args: Mapping[str, object]) -> Tensor:
        """The denoised picture after guidance, as the host asks its post-cfg functions for it."""
        if self._is_zero_step(args):
            return args["input"]
        guided, conditional = args["denoised"], args["cond_denoised"]
        if args["uncond"] is None:  # cfg 1: nothing was guided
            return guided
        count = CHANNELS[self.channels]
        if count is not None:
            guided = on_channels(guided, conditional, count)
        if self.renorm or self.rescale:
            guided = self._bounded(guided, conditional, args["input"], args["sigma"])
        return guided

    def _bounded(self, guided: Tensor, conditional: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.reshape(-1, 1, 1, 1)  # denoised = x + sigma * velocity
        velocity, bound = (guided - x) / sigma, (conditional - x) / sigma
        if self.renorm:
            velocity = renormalized(velocity, bound, self.renorm)
        if self.rescale:
            velocity = rescaled(velocity, bound, self.rescale)
        return x + sigma * velocity

    def _is_zero_step(self, args: Mapping[str, object]) -> bool:
        sigmas = args["model_options"].get("transformer_options", {}).get("sample_sigmas")
        if self.zero_steps == 0 or sigmas is None:
            return False
        last = sigmas[min(self.zero_steps, len(sigmas) - 1)]
        return bool(args["sigma"].max() > last)

    def acts_at(self, sigma: float) -> bool:
        return self.end <= sigma <= self.start


@dataclass(frozen=True)
class Interval:
    """Leaves the negative prompt out of steps where guidance does not act: they cost half."""

    guidance: Guidance

    def __call__(
        self, predict: Callable[..., list[Tensor]], model: object, conds: list, x: Tensor,
        sigma: Tensor, *rest: object,
    ) -> list[Tensor]:  # fmt: skip
        """The predictions for prompt and negative prompt; a wrapper of the host's own function."""
        is_pair = len(conds) == 2 and None not in conds
        if not is_pair or self.guidance.acts_at(float(sigma.max())):
            return predict(model, conds, x, sigma, *rest)
        prompt = predict(model, [conds[0], None], x, sigma, *rest)[0]
        # Guidance between two equal predictions is that prediction, at any cfg.
        return [prompt, prompt]


def with_guidance(model: ModelPatcher, guidance: Guidance) -> ModelPatcher:
    """A clone of `model` guided this way instead of the way it was.

    Raises ValueError for a MODEL that is no Lumina-Next: its velocity and channels are others.
    """
    check_model(model)
    model = model.clone()
    options = model.model_options
    functions = options.get("sampler_post_cfg_function", [])
    kept = [function for function in functions if not isinstance(function, Guidance)]
    # First, so that functions which other nodes hung up later see what this one gives.
    options["sampler_post_cfg_function"] = [guidance, *kept]
    model.remove_wrappers_with_key(WrappersMP.CALC_COND_BATCH, INTERVAL)
    if guidance.start < 1 or guidance.end > 0:
        model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, INTERVAL, Interval(guidance))
    return model
