"""Where tokens stand: rotary position embedding, and how it scales beyond the trained size."""

from .rotation import frequencies, rotate

__all__ = ["frequencies", "rotate"]
