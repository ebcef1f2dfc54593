"""The networks themselves: latent picture, time and caption in, velocity out.

They are built from layers, attention and rotation that are handed in; nothing about a run is stored
on them.
"""

from .flag_dit import FlagDiT
from .next_dit import NextDiT

__all__ = ["FlagDiT", "NextDiT"]
