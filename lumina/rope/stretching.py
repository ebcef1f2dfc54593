"""How far RoPE scaling stretches each wavelength: what a person can see of a method.

A wavelength is the distance after which a channel pair has turned once. Wavelengths longer than the
trained picture tell where an object stands: stretched less than the picture is, they lead to places
that the model has never seen, and objects repeat. Shorter ones tell neighbors apart: stretched,
they blur details.
"""

import math

from torch import Tensor

from ..config import PX_PER_TOKEN
from . import rotation
from .scaling import THETA, Axis, Scaling


def wavelengths_px(head_dim: int) -> Tensor:
    """As trained, along one axis, rising: (head_dim / 4,) in pixels."""
    return 2 * math.pi * PX_PER_TOKEN / rotation.frequencies(head_dim, theta=THETA)


def stretching(scaling: Scaling | None, axis: Axis) -> Tensor:
    """The share of the picture's growth by which each wavelength grows: (head_dim / 4,).

    0 leaves a wavelength as trained, 1 stretches it as far as the picture, and between them the
    share is one of powers: 1/2 is by the root of the ratio. Needs a ratio above 1.
    """
    trained = rotation.frequencies(axis.head_dim, theta=THETA)
    scaled = trained if scaling is None else scaling.frequencies(axis)
    return (trained / scaled).log() / math.log(axis.ratio)
