"""The largest numbers that are believed of a file that somebody else made.

They are checked before anything is built or counted by them, so that no file, however small, keeps
ComfyUI busy: many are checked on the thread that answers the editor. No model comes near any.
"""

LAYERS = 256
LABELS = 2**16
SHARDS = 1000
SIZE = 2**20  # of heads, features, a vocabulary and the like
COUNT = 2**24  # any other whole number in a config.json, such as the longest text
JSON_BYTES = 16 * 2**20  # of a config.json or an index; the longest index known has 2 MB
JSON_DEPTH = 64
HEADER_BYTES = 100_000_000  # the limit of the safetensors library
PICKLE_BYTES = 2 * 2**20  # of a torch file without its tensors
PICKLE_STEPS = 200_000  # of the program that a pickle is: 7,000 tensors; less than a second
TUPLE = 1000  # values in a tuple of a pickle, those of tuples inside it included
