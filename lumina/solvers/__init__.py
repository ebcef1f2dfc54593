"""From noise to picture: solvers of the flow ODE, in the form of k-diffusion's functions."""

from .runge_kutta import PARAMETERS, SOLVERS, model_calls

__all__ = ["PARAMETERS", "SOLVERS", "model_calls"]
