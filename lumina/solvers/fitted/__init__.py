"""Solvers fitted to one model, and the files they are kept in."""

from .file import Errors, Fitted, FittedFile, Setting, read_fitted, write_fitted
from .solver import FittedSolver

__all__ = [
    "Errors",
    "Fitted",
    "FittedFile",
    "FittedSolver",
    "Setting",
    "read_fitted",
    "write_fitted",
]
