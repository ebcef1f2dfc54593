"""Checkpoint files: formats, shards, key names, and the strict check of what they hold."""

from .architecture import config_from_state_dict
from .key_names import to_native
from .loading import load_flag_dit, load_next_dit

__all__ = ["config_from_state_dict", "load_flag_dit", "load_next_dit", "to_native"]
