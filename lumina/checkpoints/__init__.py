"""From files on disk to a model's weights: formats, shards, names, and whether all is there."""

from .architecture import config_from_state_dict
from .key_names import to_native
from .loading import load_next_dit

__all__ = ["config_from_state_dict", "load_next_dit", "to_native"]
