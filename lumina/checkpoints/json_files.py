"""JSON objects from files somebody else made: read within limits, or refused by name."""

import errno
import json
import stat
from pathlib import Path

from . import limits


def read_json_object(path: Path, source: str) -> dict[str, object]:
    """The object in a JSON file. Raises ValueError naming `source` if there is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait forever
            raise OSError(errno.EINVAL, "It is no file")
        with path.open("rb") as file:
            text = file.read(limits.JSON_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"{source} cannot be read: {error.strerror}. Put the file there, or take this away."
        ) from error
    return json_object(text, source)


def json_object(text: str | bytes, source: str) -> dict[str, object]:
    """The object in a JSON text. Raises ValueError naming `source` if there is none."""
    if len(text) > limits.JSON_BYTES:
        raise ValueError(
            f"{source} is larger than {limits.JSON_BYTES:,} bytes, which no such text is. "
            "Download it again."
        )
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict) or _is_deeper(parsed, limits.JSON_DEPTH):
        raise ValueError(f"{source} is damaged. Download it again.")
    return parsed


def _is_deeper(value: object, depth: int) -> bool:
    """Whether lists and objects are nested more than `depth` deep."""
    level = [value]
    for _ in range(depth):
        inner: list[object] = []
        for item in level:
            inner.extend(item.values() if isinstance(item, dict) else ())
            inner.extend(item if isinstance(item, list) else ())
        level = inner
    return any(isinstance(item, dict | list) for item in level)
