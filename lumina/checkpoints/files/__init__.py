"""Files of weights: found, read or refused by a sentence, and no code in them is run."""

from .broken import PICKLED, SAFETENSORS, explain_unreadable
from .reading import INDEX, find_model, read_file, read_file_header, shard_paths

__all__ = [
    "INDEX",
    "PICKLED",
    "SAFETENSORS",
    "explain_unreadable",
    "find_model",
    "read_file",
    "read_file_header",
    "shard_paths",
]
