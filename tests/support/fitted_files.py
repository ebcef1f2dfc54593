"""A fitted solver and its file, small and made by hand."""

from lumina_next.lumina.solvers.fitted import Errors, Fitted, FittedFile, FittedSolver, Setting

SOLVER = FittedSolver((1.0, 0.7, 0.4, 0.1, 0.0), ((1.0,), (-0.5, 1.5), (0.25, -1, 1.75), (-1, 2)))
GOOD, BAD = Errors(0.01, 0.01, 0.02, 0.03), Errors(0.02, 0.02, 0.04, 0.06)
SETTING = Setting({"network": "Next-DiT", "dim": 32, "qk_norm": True}, "0" * 64, 4.0, 128, 64)


def fitted_file(setting=SETTING, solver=SOLVER, errors=GOOD, others=BAD, prompts=("a", "b", "c")):
    fitted = Fitted(solver, errors, {"euler, sigmoid": others})
    truth = "rk4_classic, 60 uniform steps"
    return FittedFile(setting, (1, 1, 1), prompts, 7, truth, "a" * 64, {solver.calls: fitted})
