"""What a user sets for a run, and what it means for each model call.

A `Step` describes one call; `RunSettings` turn it into that call's `ForwardOptions`. Nothing is
stored on a model: the settings are frozen and travel with the run.
"""

from dataclasses import dataclass

from .context_drop import Cells, ContextDrop, DroppingLayers
from .forward import ForwardOptions
from .resolution import Resolution
from .step import Step


@dataclass(frozen=True)
class RunSettings:
    """Everything a user may set on a MODEL; None is the model as trained."""

    resolution: Resolution | None = None
    context_drop: ContextDrop | None = None

    def forward_options(self, step: Step) -> ForwardOptions:
        """What these settings mean for one model call."""
        rotation = scale = cells = None
        dropping: frozenset[int] | DroppingLayers = frozenset()
        if self.resolution is not None:
            rotation = self.resolution.rotation(step)
            scale = self.resolution.attention_scale(step)
        drop = self.context_drop
        if drop is not None and drop.factor > 1:
            # Also in calls where no layer drops: without cells they would be compiled once more.
            cells = Cells(len(step.rows), len(step.columns), drop.factor, step.line_ends)
            dropping = DroppingLayers(drop.layers(step.t, step.layers), step.layers)
        if rotation is None:
            rotation = step.trained_rotation()
        return ForwardOptions(rotation, scale, cells, dropping)
