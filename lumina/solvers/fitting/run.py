"""The whole of a fit: fine trajectories, a search and rounds of polish for each number of calls,
and the report.

What is done is kept in a work folder beside the file to write, and found again by a fit of the same
model, prompts and settings; the folder goes when the file is there.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ...parameters import Parameter
from ...schedules import SCHEDULES
from ..fitted.file import SIGMOID, Errors, Fitted
from ..fitted.solver import FittedSolver
from ..runge_kutta import SOLVERS, Solver
from .pictures import Pictures, Sets, distances
from .polish import Polish, model_calls
from .search import Search
from .trajectories import FINE_CALLS, FINE_STEPS, fine_ends, fine_trajectories

CALLS = Parameter(
    10,
    2,
    FINE_STEPS // 2,
    "Model calls for a picture, one each step. More of them draw more exactly and take longer.",
)
MIN_PROMPTS = 24  # eight in each set; with fewer, single pictures went astray
Others = Mapping[str, tuple[Solver, Tensor]]


@dataclass(frozen=True)
class Effort:
    """How much work a fit is. tries: at the noise levels. rounds: of polish, for the best try."""

    sets: Sets
    tries: int
    rounds: int

    def picture_calls(self, calls: Sequence[int], compared: int = 0) -> int:
        """Model calls in all, each for one picture, at most: tries that begin alike take fewer.

        compared: calls that the solvers to compare with take for a picture.
        """
        fine = self.sets.total * FINE_CALLS
        tried = sum(calls) * self.tries * len(self.sets.drawn)
        polished = sum(model_calls(number, self.sets, self.rounds) for number in calls)
        return fine + tried + polished + (sum(calls) + compared) * self.sets.report


EFFORTS = {
    "quick": Effort(Sets(32, 32, 32), 8, 3),
    "normal": Effort(Sets(48, 48, 96), 16, 6),
    "thorough": Effort(Sets(96, 96, 192), 32, 12),
}


@dataclass(frozen=True)
class Work:
    """Where a fit keeps what is done. file: what it is to write. key: all that it depends on."""

    file: Path
    key: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()

    @property
    def folder(self) -> Path:
        return self.file.with_name(f".{self.file.stem}.fit-{self.digest[:12]}")

    @contextmanager
    def kept(self) -> Iterator[Path]:
        """The folder; what raises inside leaves it, for the next time, and else it goes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        yield self.folder
        shutil.rmtree(self.folder, ignore_errors=True)


def fit(
    pictures: Pictures,
    effort: Effort,
    calls: Sequence[int],
    folder: Path,
    others: Mapping[int, Others] | None = None,
) -> dict[int, Fitted]:
    """A fitted solver for each number of calls, and how it does beside `others`.

    folder: where what is done is kept (`Work.kept`), and found again. Raises ValueError for numbers
    of calls out of CALLS, and for a model that gives no numbers.
    """
    for number in calls:
        CALLS.check("calls", number)
    sets, fine = effort.sets, fine_trajectories(pictures, effort.sets, folder)
    solvers = {}
    for number in calls:
        file = folder / f"search-{number}.json"
        search = Search(pictures, fine, sets, number, effort.tries, file)
        polish = Polish(pictures, fine, sets, folder)
        solvers[number] = polish.best(search.best().solver, effort.rounds)
    del fine
    truth = fine_ends(pictures, sets.reported, folder)
    return {
        number: _reported(solver, pictures, sets, truth, (others or {}).get(number, {}))
        for number, solver in solvers.items()
    }


def _reported(
    solver: FittedSolver, pictures: Pictures, sets: Sets, truth: Tensor, others: Others
) -> Fitted:
    sigmoid = {SIGMOID: (SOLVERS["euler"], SCHEDULES["sigmoid"](solver.calls))}
    own = reported_errors(pictures, sets, truth, solver, torch.tensor(solver.sigmas))
    compared = {**sigmoid, **others}.items()
    found = {name: reported_errors(pictures, sets, truth, *other) for name, other in compared}
    return Fitted(solver, own, found)


def reported_errors(
    pictures: Pictures, sets: Sets, truth: Tensor, solver: Solver, sigmas: Tensor
) -> Errors:
    """How far a solver's pictures of the report are from `truth`, what `fine_ends` gives of it."""
    parts = pictures.parts(sets.reported)
    ends = torch.cat([pictures.drawn(part, solver, sigmas).cpu() for part in parts])
    return errors_of(distances(ends, truth))


def errors_of(off: Tensor) -> Errors:
    """Mean, median, 90th percentile and largest of distances (N,)."""
    values = (off.mean(), off.median(), off.quantile(0.9), off.max())
    return Errors(*(float(value) for value in values))


def check_prompts(count: int) -> None:
    """Raise ValueError for fewer prompts than a fit needs."""
    if count < MIN_PROMPTS:
        raise ValueError(
            f"A fit needs at least {MIN_PROMPTS} different prompts, one a line, to fit, to choose "
            f"and to report on prompts apart; there are {count}."
        )


Prompt = TypeVar("Prompt")


def in_sets(prompts: Sequence[Prompt], sets: Sets) -> list[Prompt]:
    """A prompt for each picture: every set has prompts of its own, again and again in turn."""
    shares = [prompts[first::3] for first in range(3)]
    counts = (sets.fit, sets.choose, sets.report)
    pairs = zip(shares, counts, strict=True)
    return [share[i % len(share)] for share, count in pairs for i in range(count)]
