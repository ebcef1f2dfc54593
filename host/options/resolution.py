"""What the resolution node sets on a MODEL, from the choices that the editor offers."""

from comfy.model_patcher import ModelPatcher

from ...lumina.options.resolution import Resolution
from ...lumina.rope.scaling import CHOICES, TRAINED_SIZE, chosen_scaling
from ..choices import Choice, chosen
from .settings import rope_axes, with_settings
from .settings import trained_tokens as trained_tokens_of

PROPORTIONAL = {"auto": None, "on": True, "off": False}


def with_resolution(
    model: ModelPatcher,
    method: Choice,
    trained_size_px: int,
    isotropic: bool,
    proportional_attention: str,
) -> ModelPatcher:
    """A clone of `model` that meets larger sizes this way; trained size 0 is what its file says.

    Raises ValueError for a MODEL that is no Lumina-Next and for a setting out of range.
    """
    TRAINED_SIZE.check("trained_size", trained_size_px)
    trained_tokens = trained_tokens_of(model, trained_size_px)
    name, settings = chosen(method, "method", CHOICES)
    resolution = Resolution(
        trained_tokens,
        scaling=chosen_scaling(name, trained_tokens, settings, axes=rope_axes(model)),
        isotropic=isotropic,
        proportional=PROPORTIONAL[proportional_attention],
    )
    return with_settings(model, resolution=resolution)
