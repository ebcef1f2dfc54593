"""A run's settings on a MODEL: setting them, and the options of each model call from them.

They are one frozen object under `transformer_options["lumina_next"]` of a cloned MODEL, so that
branches of a graph do not share them. Once per model call, outside anything that may be compiled,
they become that call's `ForwardOptions`.
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
from ..links import MODEL, check_link

KEY = "lumina_next"
IMAGE_MODELS = {2: "lumina_next", 1: "lumina_t2i"}  # by the axes of their RoPE


def trained_tokens(model: ModelPatcher, size_px: int = 0) -> int:
    """Tokens along one side of the training pictures. size_px overrides their size unless 0.

    Raises ValueError for a MODEL that is not a Lumina-Next model.
    """
    check_model(model)
    return (size_px or model.model.model_config.trained_size_px) // PX_PER_TOKEN


def rope_axes(model: ModelPatcher) -> int:
    """2, or 1 for a model whose tokens stand in one line. Raises ValueError as `check_model`."""
    check_model(model)
    return model.model.diffusion_model.config.rope_axes


def check_model(model: ModelPatcher) -> None:
    """Raise ValueError for a MODEL that is none of this pack's, and for no MODEL at all."""
    check_link(model, "model", MODEL)
    if model.model.model_config.unet_config.get("image_model") not in IMAGE_MODELS.values():
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
    """A clone of `model` with these settings; None keeps the setting that `model` has."""
    check_model(model)
    settings = {"resolution": resolution, "context_drop": context_drop}
    model = model.clone()
    options = model.model_options["transformer_options"]
    changes = {name: value for name, value in settings.items() if value is not None}
    options[KEY] = replace(options.get(KEY, RunSettings()), **changes)
    return model


def forward_options(step: Step, transformer_options: Mapping[str, object]) -> ForwardOptions:
    """The options of one model call: the run's settings, or the model as trained."""
    return transformer_options.get(KEY, RunSettings()).forward_options(step)
