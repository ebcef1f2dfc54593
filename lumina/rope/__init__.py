"""Where tokens stand: rotary position embedding, and how it scales beyond the trained size."""

from .rotation import frequencies, positions, rotate, rotate_halves, rotation_table, trained_table

__all__ = [
    "frequencies",
    "positions",
    "rotate",
    "rotate_halves",
    "rotation_table",
    "trained_table",
]
