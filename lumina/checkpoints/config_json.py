"""Reads numbers and groups of settings from a parsed config.json, and checks them."""

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from . import limits
from .wording import quoted, shown

ConfigJson = Mapping[str, object]
_LAYERS = re.compile(r"(layers?|blocks|depth)$")
_LABELS = re.compile(r"labels$")
# Each of these is the length of an axis of some weight, or less.
_AXES = re.compile(
    r"(^|_)(hidden_size|intermediate_size|embedding_size|vocab_size|d_model|d_ff|ffn_dim|n_embd|dim"
    r"|n_positions)$"
)
_UNUSED = re.compile(r"theta|base$|^pad_val$|^model_max_length$")  # nothing is built by them


def check_sizes(config_json: ConfigJson, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError for a number that no network with these weights can have.

    It is checked before anything is built: a network of a billion features takes all memory.
    """
    longest = max((max(tensor.shape, default=0) for tensor in weights.values()), default=0)
    for key, value in _whole_numbers(config_json):
        if _LAYERS.search(key):
            most, because = limits.LAYERS, "no model has more"
        elif _LABELS.search(key):
            most, because = limits.LABELS, "no model has more"
        elif _AXES.search(key):
            most, because = longest, "no weight beside it is larger"
        else:
            most, because = limits.COUNT, "no model has more"
        if value > most and not _UNUSED.search(key):
            raise ValueError(
                f"{quoted(key)} in the config.json of {source} is {shown(value)}, where at most "
                f"{most:,} was expected: {because}. Download it again, from where the weights are."
            )


def _whole_numbers(value: object, key: str = "") -> Iterator[tuple[str, int]]:
    """Each whole number at any depth, with the key that it, or the list around it, stands at."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _whole_numbers(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _whole_numbers(inner, key)
    elif isinstance(value, int):
        yield key, value


def number(config_json: ConfigJson, key: str, low: float, high: float, source: str) -> float | None:
    """The number at `key`, None if absent. Raises ValueError unless it is from `low` to `high`."""
    value = config_json.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(
            f'"{key}" in the config.json of {source} is {shown(value)}, where a number from '
            f"{low:g} to {high:g} belongs. Download it again, from where the weights are."
        )
    return value


def size(config_json: ConfigJson, key: str, source: str) -> int | None:
    """The positive integer at `key`, None if absent. Raises ValueError for any other value."""
    value = number(config_json, key, 1, limits.SIZE, source)
    if value is not None and value % 1:
        raise ValueError(
            f'"{key}" in the config.json of {source} is {value:g}, where a whole number belongs. '
            "Download it again, from where the weights are."
        )
    return None if value is None else int(value)


def group(config_json: ConfigJson, key: str) -> ConfigJson:
    """The object at `key`; empty if absent."""
    value = config_json.get(key)
    return value if isinstance(value, Mapping) else {}
