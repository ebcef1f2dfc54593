"""Solvers fitted to the user's own model: the fit, and the use of what was fitted."""

from comfy_api.latest import io, ui

from ..host import sampling
from ..host.solvers import files, fitting, use
from ..lumina.options.guidance import CFG
from ..lumina.schedules import DENOISE
from ..lumina.solvers.fitting import CALLS, EFFORTS, MIN_PROMPTS
from .inputs import listed, number_input
from .library import ALIASES, CATEGORY

FIT_ALIASES = [*ALIASES, "fitted solver", "fast", "few steps", "bespoke", "distill", "optimize"]


class FitSolver(io.ComfyNode):
    """Lumina-Next Fit Solver: a solver made for one model, cfg and size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextFitSolver",
            display_name="Lumina-Next Fit Solver",
            category=CATEGORY,
            description="Makes a solver for this model, cfg and size, which draws in few model "
            "calls what others need many for. It takes tens of thousands of model calls, once; a "
            "stopped fit goes on where it was. The result is a small file, for Load Fitted Solver "
            "and the Fitted preset of Lumina-Next Sampler.",
            search_aliases=FIT_ALIASES,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip='From "Load Lumina-Next Model".'),
                io.Conditioning.Input(
                    "positive",
                    tooltip=f'At least {MIN_PROMPTS} prompts: from "Lumina-Next Text Encode" with '
                    "batch on, one a line. Take such as you will draw.",
                ),
                io.Conditioning.Input(
                    "negative", tooltip="One for all prompts, or one for each; may be empty."
                ),
                number_input("cfg", CFG),
                number_input("calls", CALLS),
                number_input("width", fitting.SIDE),
                number_input("height", fitting.SIDE),
                number_input("seed", sampling.SEED),
                io.Combo.Input(
                    "effort",
                    options=list(EFFORTS),
                    default="normal",
                    tooltip="How many pictures are drawn to fit, to choose and to report by, how "
                    "many noise levels are tried, and how many rounds follow, which move all "
                    "levels and weights together. More gives a better solver and takes longer.\n"
                    f"{listed(_efforts())}",
                ),
                io.String.Input(
                    "file_name",
                    default="",
                    placeholder="as the model",
                    tooltip="Name of the file in models/lumina_next_solvers. Empty: the model's "
                    "name with cfg and size.",
                ),
                _fallback_input(),
            ],
            outputs=[
                io.Sampler.Output(tooltip='The solver. Connect to "SamplerCustom".'),
                io.Sigmas.Output(tooltip="Its noise levels. It works with no others."),
                io.Image.Output(
                    tooltip="Mean error against model calls, beside other solvers, 768 x 512."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model: object, positive: list, negative: list, **settings: object
    ) -> io.NodeOutput:
        sampler, sigmas, image = fitting.fit_solver(model, positive, negative, **settings)
        return io.NodeOutput(sampler, sigmas, image, ui=ui.PreviewImage(image, cls=cls))


class LoadFittedSolver(io.ComfyNode):
    """Load Fitted Solver: a solver that was fitted before."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextFittedSolverLoader",
            display_name="Load Fitted Solver",
            category=CATEGORY,
            description="Loads a solver that Lumina-Next Fit Solver made, for SamplerCustom. It "
            "shows how exact it is; when it runs with another model, cfg or size than it was "
            "fitted to, that is shown too.",
            search_aliases=FIT_ALIASES,
            inputs=[
                io.Combo.Input(
                    "solver_name",
                    options=files.names(),
                    display_name="solver",
                    tooltip="A file in models/lumina_next_solvers. Press R after adding one.",
                ),
                number_input("calls", CALLS),
                number_input("denoise", DENOISE),
                _fallback_input(),
            ],
            outputs=[
                io.Sampler.Output(tooltip='The solver. Connect to "SamplerCustom".'),
                io.Sigmas.Output(tooltip="Its noise levels. It works with no others."),
            ],
        )

    @classmethod
    def validate_inputs(cls, solver_name: str | None = None) -> bool | str:
        return (solver_name is not None and use.explain_unusable(solver_name)) or True

    @classmethod
    def fingerprint_inputs(cls, solver_name: str | None = None, **kwargs: object) -> object:
        return None if solver_name is None else files.state(solver_name)

    @classmethod
    def execute(cls, solver_name: str, calls: int, denoise: float, fallback: bool) -> io.NodeOutput:
        return io.NodeOutput(*use.load(solver_name, calls, denoise, fallback))


def _fallback_input() -> io.Boolean.Input:
    return io.Boolean.Input(
        "fallback",
        default=True,
        advanced=True,
        tooltip="On: where the fitted solver was no better than euler with the sigmoid schedule on "
        "the pictures of its report, that is given out in its place, and the node says so.",
    )


def _efforts() -> dict[str, str]:
    return {
        name: f"{effort.sets.total} pictures, {effort.tries} tries, {effort.rounds} rounds"
        for name, effort in EFFORTS.items()
    }


NODES = [FitSolver, LoadFittedSolver]
