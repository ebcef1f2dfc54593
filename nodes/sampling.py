"""Noise to picture: the paper's schedules as SIGMAS, its solvers as SAMPLER, and both in one node.

Steps are intervals: N steps go through N + 1 sigmas. Choices, limits and tooltips are those of
`lumina`, so that the editor cannot offer what the math refuses.
"""

from collections.abc import Mapping

from comfy_api.latest import io

from ..host import sampling
from ..lumina import solvers
from ..lumina.options.guidance import CFG
from ..lumina.parameters import Parameter
from ..lumina.schedules import DENOISE, SCHEDULES, STEPS
from ..lumina.solvers.fitting import CALLS
from ..lumina.solvers.plans import DEFAULT_PRESET, PRESETS
from ..lumina.solvers.tableaus import TABLEAUS, ButcherTableau
from .inputs import choice_input, listed, number_input
from .library import ALIASES, CATEGORY

FLOW_ALIASES = [*ALIASES, "flow"]


class Scheduler(io.ComfyNode):
    """Lumina-Next Scheduler: a schedule as SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextScheduler",
            display_name="Lumina-Next Scheduler",
            category=CATEGORY,
            description="The noise levels of a run, from 1 (noise) to 0 (picture), by the "
            "schedules of Lumina-Next. For the native custom samplers and any flow model. A shift "
            "that other nodes set on the model does not add to them.",
            search_aliases=[*FLOW_ALIASES, "sigmas", "sigmoid", "shift", "time shift", "scheduler"],
            inputs=[
                _schedule_input(),
                number_input("steps", STEPS),
                number_input("denoise", DENOISE),
            ],
            outputs=[
                io.Sigmas.Output(tooltip='steps + 1 noise levels. Connect to "SamplerCustom".')
            ],
        )

    @classmethod
    def execute(
        cls, steps: int, denoise: float, schedule: io.DynamicCombo.Type | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(sampling.sigmas(schedule, steps, denoise))


class Solver(io.ComfyNode):
    """Lumina-Next Solver: an ODE solver as SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextSolver",
            display_name="Lumina-Next Solver",
            category=CATEGORY,
            description="Solvers of the flow from noise to picture: Lumina-Next's own and their "
            "relatives. For the native custom samplers and any flow model. They add no noise.",
            search_aliases=[
                *FLOW_ALIASES,
                "ode",
                "runge-kutta",
                "ksampler select",
                *solvers.SOLVERS,
            ],
            inputs=[_solver_input()],
            outputs=[io.Sampler.Output(tooltip='The solver. Connect to "SamplerCustom".')],
        )

    @classmethod
    def execute(cls, solver: io.DynamicCombo.Type | None = None) -> io.NodeOutput:
        return io.NodeOutput(sampling.sampler(solver))


class Sampler(io.ComfyNode):
    """Lumina-Next Sampler: what KSampler does, with a preset for schedule, solver and steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextSampler",
            display_name="Lumina-Next Sampler",
            category=CATEGORY,
            description="Draws the picture: KSampler with the schedules and solvers of "
            "Lumina-Next. Choose a preset; Custom opens every setting.",
            search_aliases=[
                *FLOW_ALIASES,
                "ksampler",
                "sampler",
                "generate",
                "midpoint",
                "txt2img",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip='From "Load Lumina-Next Model", or any flow model.'
                ),
                number_input("seed", sampling.SEED, control_after_generate=True),
                _preset_input(),
                number_input("cfg", CFG),
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show; may be empty."),
                io.Latent.Input(
                    "latent_image",
                    tooltip='"Empty Latent Image" for a new picture, or an encoded one to change '
                    "(with denoise below 1). Its noise mask says where.",
                ),
                number_input("denoise", DENOISE),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip='The picture, for "VAE Decode".'),
                io.Latent.Output(
                    display_name="denoised",
                    tooltip="What the model expected the picture to be at the last step: smoother "
                    "than the picture, if the steps end before it is done.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: object,
        seed: int,
        cfg: float,
        positive: list,
        negative: list,
        latent_image: dict,
        denoise: float,
        preset: io.DynamicCombo.Type | None = None,
    ) -> io.NodeOutput:
        settings = {"denoise": denoise, "cfg": cfg, "seed": seed, "plan": sampling.plan(preset)}
        return io.NodeOutput(*sampling.sample(model, positive, negative, latent_image, **settings))


# Inputs


def _schedule_input() -> io.DynamicCombo.Input:
    options = {name: _number_inputs(item.parameters) for name, item in SCHEDULES.items()}
    uses = listed({name: schedule.use for name, schedule in SCHEDULES.items()})
    return choice_input("schedule", options, f"How long the steps are.\n{uses}")


def _solver_input() -> io.DynamicCombo.Input:
    options = {name: _number_inputs(solvers.PARAMETERS[name]) for name in solvers.SOLVERS}
    uses = listed({f"{name}{_calls(item)}": item.use for name, item in TABLEAUS.items()})
    return choice_input(
        "solver",
        options,
        f"How a step is computed; its model calls, in parentheses, take the time.\n{uses}",
    )


def _calls(tableau: ButcherTableau) -> str:
    return "" if tableau.is_adaptive else f" ({tableau.calls_per_step})"


def _preset_input() -> io.DynamicCombo.Input:
    custom = [number_input("steps", STEPS), _schedule_input(), _solver_input()]
    fitted = [number_input("calls", CALLS)]
    plans = listed({name: f"{plan.summary}, {plan.steps} steps" for name, plan in PRESETS.items()})
    return choice_input(
        "preset",
        {**{name: [] for name in PRESETS}, sampling.FITTED: fitted, sampling.CUSTOM: custom},
        f"How the noise becomes the picture. More model calls take longer and draw more exactly.\n"
        f"{plans}\n{sampling.FITTED}: by a solver that was fitted to this model, if there is one.\n"
        f"{sampling.CUSTOM}: every setting your own.",
        default=DEFAULT_PRESET,
        labels={name: f"{name}: {plan.summary}" for name, plan in PRESETS.items()},
    )


def _number_inputs(parameters: Mapping[str, Parameter]) -> list[io.Input]:
    return [number_input(name, parameter) for name, parameter in parameters.items()]


NODES = [Sampler, Scheduler, Solver]
