"""Fits a solver to a model: forward calls alone, no gradients.

`trajectories` draws pictures finely, `weights` fits the steps of given noise levels, `search`
looks for the levels, `polish` moves levels and weights together, `run` does all of it. The method
is that of S4S (arXiv:2502.17423) and of Bespoke solvers (arXiv:2310.19075, 2403.01329) in its aim,
with least squares in place of training.
"""

from .pictures import Pictures, Sets
from .run import CALLS, EFFORTS, MIN_PROMPTS, Effort, Work, check_prompts, fit, in_sets

__all__ = [
    "CALLS",
    "EFFORTS",
    "MIN_PROMPTS",
    "Effort",
    "Pictures",
    "Sets",
    "Work",
    "check_prompts",
    "fit",
    "in_sets",
]
