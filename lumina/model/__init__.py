"""Next-DiT itself: latent picture, time and caption in, velocity out.

It is built from layers, attention and rotation that are handed in; nothing about a run is stored
on it.
"""

from .next_dit import NextDiT

__all__ = ["NextDiT"]
