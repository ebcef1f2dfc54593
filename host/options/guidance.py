"""A `Guidance` on a MODEL: after the host's own cfg, and in place of it outside its interval.

So it composes with every sampler and with other guidance nodes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...lumina.options.guidance import Guidance
from .settings import check_model

INTERVAL = "lumina_next_guidance_interval"


@dataclass(frozen=True)
class AfterCfg:
    """The rules as one of the host's post-cfg functions."""

    guidance: Guidance

    def __call__(self, args: Mapping[str, object]) -> Tensor:
        """The denoised picture after guidance, as the host asks its post-cfg functions for it."""
        x, sigma = args["input"], args["sigma"]
        sigmas = args["model_options"].get("transformer_options", {}).get("sample_sigmas")
        if sigmas is not None and self.guidance.leaves_noise(sigma, sigmas):
            return x
        if args["uncond"] is None:  # cfg 1: nothing was guided
            return args["denoised"]
        return self.guidance.bounded(args["denoised"], args["cond_denoised"], x, sigma)


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
    kept = [function for function in functions if not isinstance(function, AfterCfg)]
    # First, so that functions which other nodes added later see what this one gives.
    options["sampler_post_cfg_function"] = [AfterCfg(guidance), *kept]
    model.remove_wrappers_with_key(WrappersMP.CALC_COND_BATCH, INTERVAL)
    if guidance.start < 1 or guidance.end > 0:
        model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, INTERVAL, Interval(guidance))
    return model
