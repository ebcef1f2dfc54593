"""Noise to picture: the paper's schedules as SIGMAS, its solvers as SAMPLER, and both in one node.

Steps are intervals: N steps go through N + 1 sigmas. Choices and limits are those of `lumina`, so
that the editor cannot offer what the maths refuses.
"""

from collections.abc import Mapping

from comfy_api.latest import io

from ..host import sampling
from ..host.sampling import PRESETS, Plan
from ..lumina.schedules import SCHEDULES, Parameter, truncate
from ..lumina.solvers import runge_kutta
from ..lumina.solvers.runge_kutta import SOLVERS
from ..lumina.solvers.tableaus import TABLEAUS
from .inputs import chosen

CUSTOM = "Custom"
MAX_STEPS = 1000
ALIASES = ["lumina", "lumina next", "flow"]


class Scheduler(io.ComfyNode):
    """Lumina-Next Scheduler: a schedule as SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextScheduler",
            display_name="Lumina-Next Scheduler",
            category="model/sampling/schedulers",
            description="The noise levels of a run, from 1 (noise) to 0 (picture), by the "
            "schedules of Lumina-Next. For the native custom samplers and any flow model. A shift "
            "that other nodes set on the model does not add to them.",
            search_aliases=[*ALIASES, "sigmas", "sigmoid", "shift", "time shift", "scheduler"],
            inputs=[_schedule_input(), _steps_input(), _denoise_input()],
            outputs=[
                io.Sigmas.Output(tooltip='steps + 1 noise levels. Connect to "SamplerCustom".')
            ],
        )

    @classmethod
    def execute(
        cls, steps: int, denoise: float, schedule: io.DynamicCombo.Type | None = None
    ) -> io.NodeOutput:
        name, parameters = chosen(schedule, "schedule", SCHEDULES)
        return io.NodeOutput(truncate(SCHEDULES[name], steps, denoise, **parameters))


class Solver(io.ComfyNode):
    """Lumina-Next Solver: an ODE solver as SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextSolver",
            display_name="Lumina-Next Solver",
            category="model/sampling/samplers",
            description="Solvers of the flow from noise to picture: Lumina-Next's own and their "
            "relatives. For the native custom samplers and any flow model. They add no noise.",
            search_aliases=[*ALIASES, "ode", "runge-kutta", "ksampler select", *SOLVERS],
            inputs=[_solver_input()],
            outputs=[io.Sampler.Output(tooltip='The solver. Connect to "SamplerCustom".')],
        )

    @classmethod
    def execute(cls, solver: io.DynamicCombo.Type | None = None) -> io.NodeOutput:
        return io.NodeOutput(sampling.sampler(*chosen(solver, "solver", SOLVERS)))


class Sampler(io.ComfyNode):
    """Lumina-Next Sampler: what KSampler does, with a preset for schedule, solver and steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextSampler",
            display_name="Lumina-Next Sampler",
            category="model/sampling",
            description="Draws the picture: KSampler with the schedules and solvers of "
            "Lumina-Next. Choose a preset; Custom opens every setting.",
            search_aliases=[*ALIASES, "ksampler", "sampler", "generate", "midpoint", "txt2img"],
            inputs=[
                io.Model.Input(
                    "model", tooltip='From "Load Lumina-Next Model", or any flow model.'
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Number of the noise to start from. The same seed and settings give "
                    "the same picture; another seed gives another one.",
                ),
                _preset_input(),
                io.Float.Input(
                    "cfg",
                    default=4.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Strength of guidance, without unit. Higher follows the prompt more "
                    "closely, with harder colors and less variety. At 1 the negative prompt is "
                    "ignored and a step costs half.",
                ),
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show; may be empty."),
                io.Latent.Input(
                    "latent_image",
                    tooltip='"Empty Latent Image" for a new picture, or an encoded one to change '
                    "(with denoise below 1). Its noise mask says where.",
                ),
                _denoise_input(),
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
        settings = {"plan": _plan(preset), "denoise": denoise, "cfg": cfg, "seed": seed}
        return io.NodeOutput(*sampling.sample(model, positive, negative, latent_image, **settings))


# Inputs


def _steps_input() -> io.Int.Input:
    return io.Int.Input(
        "steps",
        default=10,
        min=1,
        max=MAX_STEPS,
        tooltip="Steps from noise to picture. More of them draw details more exactly and take "
        "longer. The released code counts points: its 30 are 29 steps.",
    )


def _denoise_input() -> io.Float.Input:
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="Share of the way from noise to picture that is taken, in as many steps. 1 draws "
        "a new picture; lower keeps more of the given one; 0 changes nothing.",
    )


SCHEDULE_PARAMETERS = {
    "mu": "Where the steps are longest, as a share of the run. Higher puts more of them in the "
    "first, noisy part, where the layout is drawn. The paper's value is 0.6.",
    "alpha": "How steeply steps lengthen before mu. Higher makes the first ones shorter. The "
    "paper's value is 6.",
    "beta": "How steeply steps shorten after mu. Higher makes the last ones shorter. The paper's "
    "value is 20.",
    "shift": "Above 1, more of the steps go to the first, noisy part, where the layout is drawn, "
    "and fewer to the details. 1 is uniform; 4 is the released demo's.",
}


def _schedule_input() -> io.DynamicCombo.Input:
    return io.DynamicCombo.Input(
        "schedule",
        options=[
            io.DynamicCombo.Option(
                name, [_parameter_input(id_, item) for id_, item in schedule.parameters.items()]
            )
            for name, schedule in SCHEDULES.items()
        ],
        tooltip="How long the steps are. sigmoid: short at both ends, from the paper; best with "
        "euler and bosh3. uniform: all alike; best with midpoint. rational: long at the end, the "
        "released demo's time shift. sigmoid_map: another reading of the paper's sigmoid.",
    )


def _parameter_input(name: str, parameter: Parameter) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=parameter.default,
        min=parameter.low,
        max=parameter.high,
        step=0.01 if name == "mu" else 0.1,
        round=0.001,
        advanced=name != "shift",
        tooltip=SCHEDULE_PARAMETERS[name],
    )


def _solver_input() -> io.DynamicCombo.Input:
    options = {name: [] for name in SOLVERS} | {"dopri5": _dopri5_inputs()}
    calls = ", ".join(f"{name} {runge_kutta.model_calls(name, 1)}" for name in TABLEAUS)
    return io.DynamicCombo.Input(
        "solver",
        options=[io.DynamicCombo.Option(name, inputs) for name, inputs in options.items()],
        tooltip="How a step is computed. midpoint is the released demo's; rk4 is the released "
        f"code's (3/8 rule). Model calls in each step, which is what takes the time: {calls}. "
        "dopri5 chooses its own steps until its error is small enough.",
    )


def _dopri5_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "rtol",
            default=runge_kutta.RTOL,
            min=1e-6,
            max=1.0,
            step=1e-4,
            round=1e-6,
            tooltip="Error allowed in one step, as a share of the picture's values. Higher is "
            "faster and coarser.",
        ),
        io.Float.Input(
            "atol",
            default=runge_kutta.ATOL,
            min=1e-7,
            max=1.0,
            step=1e-6,
            round=1e-7,
            advanced=True,
            tooltip="Error allowed in one step besides, in latent units (noise has spread 1). "
            "Higher is faster and coarser.",
        ),
        io.Int.Input(
            "max_steps",
            default=runge_kutta.MAX_STEPS,
            min=1,
            max=10000,
            advanced=True,
            tooltip="Steps, of 6 model calls each, after which it gives up with an error. Higher "
            "lets it work longer.",
        ),
    ]


def _preset_input() -> io.DynamicCombo.Input:
    return io.DynamicCombo.Input(
        "preset",
        options=[
            *(io.DynamicCombo.Option(name, []) for name in PRESETS),
            io.DynamicCombo.Option(CUSTOM, [_steps_input(), _schedule_input(), _solver_input()]),
        ],
        tooltip="How the noise becomes the picture. "
        + " ".join(f"{name}: {_described(plan)}." for name, plan in PRESETS.items())
        + " Custom: your own. More model calls take longer and draw more exactly.",
    )


def _described(plan: Plan) -> str:
    return f"{plan.model_calls} model calls ({plan.solver}, {plan.schedule}, {plan.steps} steps)"


# Values


def _plan(preset: Mapping[str, object] | None) -> Plan:
    name, custom = chosen(preset, "preset", [*PRESETS, CUSTOM])
    if name != CUSTOM:
        return PRESETS[name]
    schedule, parameters = chosen(custom.get("schedule"), "preset.schedule", SCHEDULES)
    solver, options = chosen(custom.get("solver"), "preset.solver", SOLVERS)
    return Plan(custom["steps"], schedule, solver, parameters, options)


NODES = [Sampler, Scheduler, Solver]
