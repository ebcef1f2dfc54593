"""What a user sets for a run on a MODEL, and what it means for each model call.

The settings stand as one frozen object under `transformer_options["lumina_next"]` of a cloned
MODEL, so two branches of a graph cannot see each other's. Once per model call, outside anything
that may be compiled, they are turned into that call's `ForwardOptions`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..lumina import rope
from ..lumina.context_drop import Cells, ContextDrop
from ..lumina.options import ForwardOptions
from ..lumina.resolution import Axis, Scaling
from .options import Step

KEY = "lumina_next"
IMAGE_MODEL = "lumina_next"
PX_PER_TOKEN = 16


@dataclass(frozen=True)
class Resolution:
    """How a model meets sizes it was not trained at; at and below that size it changes nothing.

    scaling: what RoPE does above the trained size; None leaves it. trained_tokens: along one side.
    isotropic: one ratio from the picture's area, as released, instead of one for each axis.
    proportional: proportional attention; None is on above the trained number of tokens only.
    """

    trained_tokens: int
    scaling: Scaling | None = None
    isotropic: bool = False
    proportional: bool | None = None

    def ratios(self, frame: tuple[int, int]) -> tuple[float, float]:
        """Tokens over trained tokens, for rows and columns."""
        height, width = (side / self.trained_tokens for side in frame)
        return (math.sqrt(height * width),) * 2 if self.isotropic else (height, width)

    def rotation(self, step: Step) -> Tensor | None:
        """The call's RoPE table; None where the trained one serves."""
        ratios = self.ratios(step.frame)
        if self.scaling is None or max(ratios) <= 1:
            return None
        t = step.t if self.scaling.depends_on_time else 0.0
        rows, columns = (
            self.scaling.frequencies(Axis(ratio, self.trained_tokens, step.head_dim, t))
            for ratio in ratios
        )
        return rope.rotation_table_at(step.rows, step.columns, rows, columns, step.device)

    def attention_scale(self, step: Step) -> float | None:
        """The call's softmax scale; None for the usual one."""
        tokens, trained = len(step.rows) * len(step.columns), self.trained_tokens**2
        wanted = tokens > trained if self.proportional is None else self.proportional
        if not wanted or tokens == trained:
            return None
        # Never below the usual: fewer tokens than trained need no softer attention.
        scale = rope.proportional_scale(tokens, trained, step.head_dim)
        return max(scale, step.head_dim**-0.5)


@dataclass(frozen=True)
class RunSettings:
    """Everything a user may set on a MODEL; None is the model as trained."""

    resolution: Resolution | None = None
    context_drop: ContextDrop | None = None

    def forward_options(self, step: Step) -> ForwardOptions:
        rotation = scale = cells = None
        dropping: frozenset[int] = frozenset()
        if self.resolution is not None:
            rotation = self.resolution.rotation(step)
            scale = self.resolution.attention_scale(step)
        if self.context_drop is not None:
            dropping = self.context_drop.layers(step.t, step.layers)
        if dropping:
            cells = Cells(len(step.rows), len(step.columns), self.context_drop.factor)
        if rotation is None:
            rotation = step.trained_rotation()
        return ForwardOptions(rotation, scale, cells, dropping)


def trained_tokens(model: ModelPatcher, size_px: int = 0) -> int:
    """Tokens along one side of the pictures `model` was trained on; `size_px` says so unless 0.

    Raises ValueError for a MODEL that is no Lumina-Next.
    """
    check_model(model)
    return (size_px or model.model.model_config.trained_size_px) // PX_PER_TOKEN


def check_model(model: ModelPatcher) -> None:
    """Raise ValueError for a MODEL that is no Lumina-Next: it would ignore these settings."""
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
