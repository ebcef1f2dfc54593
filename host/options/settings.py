"""Where a run's settings stand on a MODEL.

They are one frozen object under `transformer_options["lumina_next"]` of a cloned MODEL, so two
branches of a graph cannot see each other's. Once per model call, outside anything that may be
compiled, they become that call's `ForwardOptions`.
"""

from collections.abc import Mapping
from dataclasses import replace

from comfy.model_patcher import ModelPatcher

from ...lumina.config import PX_PER_TOKEN
from ...lumina.options.context_drop import ContextDrop
from ...lumina.options.forward import ForwardOptions
from ...lumina.options.resolution import Resolution
from ...lumina.options.run import RunSettings
from ...lumina.options.step import Step

KEY = "lumina_next"
IMAGE_MODEL = "lumina_next"


def trained_tokens(model: ModelPatcher, size_px: int = 0) -> int:
    """Tokens along one side of the pictures `model` was trained on; `size_px` says so unless 0.

    Raises ValueError for a MODEL that is no Lumina-Next.
    """
    check_model(model)
    return (size_px or model.model.model_config.trained_size_px) // PX_PER_TOKEN


def check_model(model: ModelPatcher) -> None:
    """Raise ValueError for a MODEL that is no Lumina-Next, which our settings do not fit."""
    if model.model.model_config.unet_config.get("image_model") != IMAGE_MODEL:
        raise ValueError(
            f"The MODEL is not a Lumina-Next model but {type(model.model).__name__}, which this "
            'node cannot change. Connect "Load Lumina-Next Model".'
        )


def with_settings(
    model: ModelPatcher,
    *,
    resolution: Resolution | None = None,
    context_drop: ContextDrop | None = None,
) -> ModelPatcher:
    """A clone of `model` with these settings; those left None stay as `model` has them."""
    check_model(model)
    given = {"resolution": resolution, "context_drop": context_drop}
    model = model.clone()
    options = model.model_options["transformer_options"]
    changes = {name: value for name, value in given.items() if value is not None}
    options[KEY] = replace(options.get(KEY, RunSettings()), **changes)
    return model


def forward_options(step: Step, transformer_options: Mapping[str, object]) -> ForwardOptions:
    """The options of one model call: the run's settings, or the model as trained."""
    return transformer_options.get(KEY, RunSettings()).forward_options(step)
