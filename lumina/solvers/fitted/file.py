"""Fitted solvers as a file: one model at one cfg and size, a solver for each number of calls.

A JSON object of a few kilobytes, made by `lumina.solvers.fitting` or by somebody else's: it is read
strictly, and every number in it within limits.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeGuard

from ...checkpoints.convert.disk import atomic_write
from ...checkpoints.foreign import reading
from ...checkpoints.json_files import read_json_object
from ...checkpoints.wording import quoted, shown
from ...config import DiTConfig
from .solver import MAX_CALLS, FittedSolver

FORMAT = "lumina-next fitted solver"
VERSION = 1
MAX_TEXT = 2000  # characters of a prompt
MAX_PROMPTS = 10_000
MAX_OTHERS = 20
MAX_SIZE_PX = 2**16
MAX_CFG = 100.0
MAX_ERROR = 1e6
_DIGEST = re.compile(r"[0-9a-f]{64}")
Json = Mapping[str, object]


@dataclass(frozen=True)
class Errors:
    """Distances of pictures from the fine solution, each the root mean square over its latent.

    percentile_90: nine pictures of ten are nearer.
    """

    mean: float
    median: float
    percentile_90: float
    worst: float


@dataclass(frozen=True)
class Setting:
    """What a solver was fitted to. fingerprint: of the weights, by `checkpoints.fingerprint`."""

    architecture: Mapping[str, object]
    fingerprint: str
    cfg: float
    width_px: int
    height_px: int

    def is_of_model(self, other: "Setting") -> bool:
        """Whether `other` is a setting of the same model."""
        same = self.architecture == other.architecture
        return same and self.fingerprint == other.fingerprint

    def differences(self, other: "Setting") -> list[str]:
        """In what `other`, a run's setting, is another: "cfg 2 in place of 4" and the like."""
        if self.architecture != other.architecture:
            return ["a model of another architecture"]
        found = [] if self.fingerprint == other.fingerprint else ["another model, or a LoRA on it"]
        if not math.isclose(self.cfg, other.cfg, abs_tol=1e-6):
            found.append(f"cfg {other.cfg:g} in place of {self.cfg:g}")
        if (self.width_px, self.height_px) != (other.width_px, other.height_px):
            found.append(
                f"{other.width_px} x {other.height_px} px in place of {self.width_px} x "
                f"{self.height_px}"
            )
        return found


@dataclass(frozen=True)
class Fitted:
    """A fitted solver and how it did on pictures that took no part in the fit.

    others: the same pictures by other solvers at as many calls, by name; SIGMOID is among them.
    """

    solver: FittedSolver
    errors: Errors
    others: Mapping[str, Errors]

    @property
    def is_better(self) -> bool:
        """Than Euler with the sigmoid schedule, in the mean and in the worst picture."""
        sigmoid = self.others[SIGMOID]
        return self.errors.mean < sigmoid.mean and self.errors.worst < sigmoid.worst


SIGMOID = "euler, sigmoid"


@dataclass(frozen=True)
class FittedFile:
    """All solvers of one setting, by their number of calls.

    pictures: how many were used to fit, to choose and to report. prompts: those used, in this
    order, as far as they are known. seed: of the noise. truth: the fine solution, in words. key:
    64 hexadecimal digits of all that the fits depended on, but for their numbers of calls.
    """

    setting: Setting
    pictures: tuple[int, int, int]
    prompts: tuple[str, ...]
    seed: int
    truth: str
    key: str
    solvers: Mapping[int, Fitted]

    def solver(self, calls: int, source: str) -> Fitted:
        """That of so many calls. Raises ValueError naming those that there are."""
        if calls not in self.solvers:
            there = ", ".join(map(str, sorted(self.solvers)))
            raise ValueError(f"{source} has no solver of {calls} calls. It has: {there}.")
        return self.solvers[calls]


def architecture_of(config: DiTConfig) -> dict[str, object]:
    """A network's architecture as it stands in the file."""
    return {"network": config.network, **asdict(config)}


def write_fitted(file: Path, content: FittedFile) -> None:
    """Write the file, whole or not at all. Raises OSError."""
    solvers = [
        {
            "calls": calls,
            "sigmas": fitted.solver.sigmas,
            "weights": fitted.solver.weights,
            "errors": asdict(fitted.errors),
            "others": {name: asdict(errors) for name, errors in fitted.others.items()},
        }
        for calls, fitted in sorted(content.solvers.items())
    ]
    text = json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            **{key: value for key, value in vars(content.setting).items()},
            "pictures": dict(zip(("fit", "choose", "report"), content.pictures, strict=True)),
            "seed": content.seed,
            "truth": content.truth,
            "key": content.key,
            "solvers": solvers,
            "prompts": content.prompts,
        },
        indent=1,
    )
    with atomic_write(file) as opened:
        opened.write(text.encode() + b"\n")


def read_fitted(file: Path) -> FittedFile:
    """What a file holds. Raises ValueError or FileNotFoundError that name it and what is wrong."""
    with reading(file.name):
        if not file.exists():
            raise FileNotFoundError(f"There is no file {file.name}.")
        content = read_json_object(file, file.name)
        if content.get("format") != FORMAT:
            raise ValueError(f"{file.name} is no fitted solver: it does not say that it is one.")
        if content.get("version") != VERSION:
            raise ValueError(
                f"{file.name} is version {shown(content.get('version'))} of a fitted solver, and "
                f"{VERSION} is known here. Update Lumina-Next, or fit again."
            )
        try:
            return _content(content)
        except ValueError as error:
            raise ValueError(
                f"{file.name} is damaged: {error}. Fit again, or get the file again."
            ) from error


def _content(content: Json) -> FittedFile:
    counts = _object(content, "pictures")
    pictures = {key: _whole(counts, key, 0, MAX_PROMPTS) for key in ("fit", "choose", "report")}
    fitted = [_fitted(item) for item in _list(content, "solvers", 1, MAX_CALLS)]
    return FittedFile(
        _setting(content),
        (pictures["fit"], pictures["choose"], pictures["report"]),
        tuple(_text(item, "prompts") for item in _list(content, "prompts", 0, 3 * MAX_PROMPTS)),
        _whole(content, "seed", 0, 2**64 - 1),
        _text(content.get("truth"), "truth"),
        _digits(content, "key"),
        {item.solver.calls: item for item in fitted},
    )


def _setting(content: Json) -> Setting:
    architecture = dict(_object(content, "architecture"))
    if not all(
        value is None or isinstance(value, str | int | float) for value in architecture.values()
    ):
        raise ValueError('"architecture" holds more than numbers and names')
    return Setting(
        architecture,
        _digits(content, "fingerprint"),
        _number(content, "cfg", 0, MAX_CFG),
        _whole(content, "width_px", 1, MAX_SIZE_PX),
        _whole(content, "height_px", 1, MAX_SIZE_PX),
    )


def _fitted(item: object) -> Fitted:
    solver = _as_object(item, "solvers")
    sigmas = _numbers(_list(solver, "sigmas", 2, MAX_CALLS + 1), "sigmas")
    rows = _list(solver, "weights", 1, MAX_CALLS)
    weights = tuple(_numbers(_as_list(row, "weights"), "weights") for row in rows)
    others = _object(solver, "others")
    if SIGMOID not in others or len(others) > MAX_OTHERS:
        raise ValueError(f'"others" does not name {quoted(SIGMOID)}, or names too many')
    return Fitted(
        FittedSolver(sigmas, weights),
        _errors(_object(solver, "errors")),
        {_text(name, "others"): _errors(_object(others, name)) for name in others},
    )


def _errors(item: Json) -> Errors:
    keys = Errors.__dataclass_fields__
    return Errors(**{key: _number(item, key, 0, MAX_ERROR) for key in keys})


# Values of JSON, each checked; `json` itself reads NaN, Infinity and true for 1.


def _number(item: Json, key: str, low: float, high: float) -> float:
    value = item.get(key)
    if not _is_number(value) or not low <= value <= high:
        raise ValueError(f"{quoted(key)} is {shown(value)}, where {low:g} to {high:g} belongs")
    return float(value)


def _whole(item: Json, key: str, low: int, high: int) -> int:
    value = item.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{quoted(key)} is {shown(value)}, where {low} to {high} belongs")
    return value


def _numbers(items: list[object], key: str) -> tuple[float, ...]:
    numbers = [float(item) for item in items if _is_number(item)]
    if len(numbers) < len(items):
        raise ValueError(f"{quoted(key)} holds more than numbers")
    return tuple(numbers)


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**64  # Infinity, NaN and whole numbers too long for a float are not


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"{quoted(key)} holds {shown(value)}, where a text belongs")
    return value


def _digits(item: Json, key: str) -> str:
    value = _text(item.get(key), key)
    if not _DIGEST.fullmatch(value):
        raise ValueError(f"{quoted(key)} is not 64 hexadecimal digits")
    return value


def _list(item: Json, key: str, low: int, high: int) -> list[object]:
    value = _as_list(item.get(key), key)
    if not low <= len(value) <= high:
        raise ValueError(f"{quoted(key)} has {len(value)} entries, where {low} to {high} belong")
    return value


def _as_list(value: object, key: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{quoted(key)} is no list")
    return value


def _object(item: Json, key: str) -> Json:
    return _as_object(item.get(key), key)


def _as_object(value: object, key: str) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"{quoted(key)} is no object")
    return value
