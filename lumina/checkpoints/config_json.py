"""Reads numbers and groups of settings from a parsed config.json, and checks them."""

from collections.abc import Mapping

ConfigJson = Mapping[str, object]
LARGEST_SIZE = 2**20  # of heads, features and the like; no model comes near


def number(config_json: ConfigJson, key: str, low: float, high: float, source: str) -> float | None:
    """The number at `key`, None if absent. Raises ValueError unless it is from `low` to `high`."""
    value = config_json.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(
            f'"{key}" in the config.json of {source} is {value!r}, where a number from {low:g} to '
            f"{high:g} belongs. Download it again, from where the weights are."
        )
    return value


def size(config_json: ConfigJson, key: str, source: str) -> int | None:
    """The positive integer at `key`, None if absent. Raises ValueError for any other value."""
    value = number(config_json, key, 1, LARGEST_SIZE, source)
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
