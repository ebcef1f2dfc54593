"""TeaCache on a MODEL: a memory for each run, and each model call's part in it.

The memory is made when sampling begins and is gone when it ends, however it ends: nothing of it is
on the model.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import comfy.model_patcher
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...lumina.options.step import Step
from ...lumina.options.step_cache import (
    CachedCall,
    StepCache,
    StepMemory,
    check_fitted,
    notice_of,
)
from ..notices import say
from .settings import check_model

MEMORY = "lumina_next_step_memory"  # in the transformer_options of a run
RUN = "lumina_next_step_cache"


@dataclass(frozen=True)
class Remembering:
    """A wrapper of the host's sampling that gives each run a memory."""

    settings: StepCache

    def __call__(self, sample: Callable[..., Tensor], *args: object, **kwargs: object) -> Tensor:
        guider, memory = sample.class_obj, StepMemory(self.settings)
        before = guider.model_options
        guider.model_options = comfy.model_patcher.create_model_options_clone(before)
        guider.model_options["transformer_options"][MEMORY] = memory
        try:
            return sample(*args, **kwargs)
        finally:
            guider.model_options = before
            logging.info(
                f"Lumina-Next TeaCache skipped {memory.skipped} of {memory.calls} model calls."
            )


def with_step_cache(model: ModelPatcher, settings: StepCache) -> ModelPatcher:
    """A clone of `model` that skips steps this way instead of the way it did.

    Says so on the node where the coefficients were fitted to a larger model. Raises ValueError for
    a MODEL that is no Lumina-Next, or a Lumina-T2I.
    """
    check_model(model)
    config = model.model.diffusion_model.config
    check_fitted(config)
    notice = notice_of(config)
    model = model.clone()
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, RUN)
    if settings.threshold > 0:
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, RUN, Remembering(settings))
        if notice:
            say(notice)
    return model


def cached_call(step: Step, transformer_options: Mapping[str, object]) -> CachedCall | None:
    """The part of one model call in its run's memory; None without one."""
    memory = transformer_options.get(MEMORY)
    if memory is None:
        return None
    # Another pass at the same prompt, such as "Skip Layer Guidance" makes, is another branch.
    replaced = frozenset(transformer_options.get("patches_replace", {}).get("dit", {}))
    prompts = [(uuid, replaced) for uuid in transformer_options.get("uuids") or [None]]
    sigmas = transformer_options.get("sample_sigmas")
    last = 0.0 if sigmas is None or len(sigmas) < 2 else float(sigmas[-2])
    return memory.call(prompts, 1 - step.t, last)
