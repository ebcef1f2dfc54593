"""Numbers that a user may set, and the limits of each, stated once.

What computes with such a number refuses a value out of range; the editor's inputs, their tooltips
and the tables of the help pages are made from the same `Parameter`.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """A number, whole where its default is an int; `low` and `high` are legal themselves.

    meaning: what it is, in which unit, and what a higher value does. step: a change worth making,
    None for the editor's own. precision: the smallest change that counts, None for `step`.
    is_advanced: hidden by the editor until asked for.
    """

    default: float
    low: float
    high: float
    meaning: str
    step: float | None = None
    precision: float | None = None
    is_advanced: bool = False

    @property
    def is_whole(self) -> bool:
        return isinstance(self.default, int)

    def check(self, name: str, value: float) -> None:
        """Raise ValueError for a value that is out of range, or a fraction in place of a count."""
        if not self.low <= value <= self.high or (self.is_whole and value % 1):
            number = "a whole number from" if self.is_whole else "from"
            raise ValueError(f"{name} must be {number} {self.low:g} to {self.high:g}, got {value}.")


def check_fields(parameters: Mapping[str, Parameter], settings: object) -> None:
    """Check those fields of a dataclass that `parameters` name. Raises ValueError."""
    for name, parameter in parameters.items():
        parameter.check(name, getattr(settings, name))
