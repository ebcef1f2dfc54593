"""What the editor draws on a node before anything runs: numbers for its settings, over one route.

GET /lumina_next/preview/{name}?input=value&... answers with JSON. The inputs are a node's, flat and
with dots as in the API format; web/preview.js sends them. Nothing is read but them, and nothing is
kept but by the browser.
"""

import inspect
from collections.abc import Callable, Mapping

from aiohttp import web
from server import PromptServer

from ..lumina.config import PX_PER_TOKEN
from ..lumina.picture_sizes import RELEASED_SIZE
from ..lumina.rope.scaling import CHOICES, TRAINED_SIZE, Axis, Scaling, chosen_scaling
from ..lumina.rope.stretching import stretching, wavelengths_px
from ..lumina.schedules import DENOISE
from . import sampling
from .choices import Choice, chosen

Answer = dict[str, object]

SECONDS_TO_KEEP = 600
HEAD_DIM = 72  # of the released 2B
# In powers of the ratio, methods stretch alike at any ratio, or nearly so.
RATIO = 2.0
TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
# The inputs that bring inputs of their own.
CHOICE_INPUTS = {"method", "preset", "preset.schedule", "preset.solver", "schedule"}


def scheduler(schedule: Choice, steps: int, denoise: float) -> Answer:
    """The sigmas of "Lumina-Next Scheduler"."""
    _check_denoise(denoise)
    return {
        "sigmas": sampling.sigmas(schedule, steps, denoise).tolist(),
        "schedule": schedule["schedule"],
    }


def sampler(preset: Choice, denoise: float) -> Answer:
    """The plan of "Lumina-Next Sampler". model_calls: None where they depend on the model."""
    _check_denoise(denoise)
    plan = sampling.plan(preset)
    if isinstance(plan, sampling.FittedPlan):
        raise ValueError(
            "The noise levels are those of the solver that is fitted to the model: the demo model "
            'comes with some, for another one make them with "Lumina-Next Fit Solver".'
        )
    return {
        "sigmas": plan.sigmas(denoise).tolist(),
        "schedule": plan.schedule,
        "solver": plan.solver,
        "model_calls": plan.model_calls if denoise else 0,
    }


def _check_denoise(denoise: float) -> None:
    # Of a run this short the part left out is so long that computing it would take seconds.
    if 0 < denoise < DENOISE.step:
        raise ValueError(f"denoise must be 0 or at least {DENOISE.step:g}, got {denoise}.")


def resolution(method: Choice, trained_size: int) -> Answer:
    """How "Lumina-Next Resolution" stretches each wavelength, at some times of the run.

    assumed: whether the trained size is, where the node takes it from the file of its model.
    wavelengths: in px, as trained. lines: for each time t the shares of `stretching`.
    """
    TRAINED_SIZE.check("trained_size", trained_size)
    trained_px = trained_size or RELEASED_SIZE
    name, settings = chosen(method, "method", CHOICES)
    scaling = chosen_scaling(name, trained_px // PX_PER_TOKEN, settings)
    return {
        "method": name if scaling is None else scaling.method,
        "trained_px": trained_px,
        "assumed": trained_size == 0,
        "wavelengths": wavelengths_px(HEAD_DIM).tolist(),
        "lines": [
            {"t": t, "stretching": _stretching(scaling, trained_px, t)} for t in _times(scaling)
        ],
    }


def _times(scaling: Scaling | None) -> tuple[float, ...]:
    return TIMES if scaling is not None and scaling.depends_on_time else TIMES[-1:]


def _stretching(scaling: Scaling | None, trained_px: int, t: float) -> list[float]:
    return stretching(scaling, Axis(RATIO, trained_px // PX_PER_TOKEN, HEAD_DIM, t)).tolist()


PREVIEWS: dict[str, Callable[..., Answer]] = {
    "resolution": resolution,
    "sampler": sampler,
    "scheduler": scheduler,
}


def preview(name: str, inputs: Mapping[str, str]) -> Answer:
    """The numbers of a preview for flat `inputs` as text, or under "problem" why there are none.

    Raises ValueError for a name that is no preview's, and for inputs that it does not have.
    """
    if name not in PREVIEWS:
        raise ValueError(f'There is no preview "{name}"; there are: {", ".join(PREVIEWS)}.')
    try:
        given = inspect.signature(PREVIEWS[name]).bind(**nested(inputs))
    except (KeyError, TypeError) as error:
        raise ValueError(f"The preview {name} does not have these inputs: {error}.") from error
    try:
        return PREVIEWS[name](*given.args, **given.kwargs)
    except ValueError as error:
        return {"problem": str(error)}  # such as a value that no widget offers, in an old graph
    except (KeyError, TypeError):
        return {"problem": "An input is missing, or its value is of another kind."}


def nested(inputs: Mapping[str, str]) -> dict[str, object]:
    """Flat inputs in the form in which a node gets them: a dict for each dynamic choice."""
    tree: dict[str, object] = {}
    for path in sorted(inputs):  # a choice comes before its own inputs
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch[parent]
        value = _value(inputs[path])
        branch[name] = {name: value} if path in CHOICE_INPUTS else value
    return tree


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


async def answer(request: web.Request) -> web.Response:
    """The response to a request for a preview: 400 with a sentence where there is none."""
    try:
        numbers = preview(request.match_info["name"], request.query)
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
    headers = {"Cache-Control": f"private, max-age={SECONDS_TO_KEEP}"}
    return web.json_response(numbers, headers=headers)


def register_previews() -> None:
    """Open the route. Without the web server, as in scripts and tests, there is none."""
    editor = getattr(PromptServer, "instance", None)
    if editor is not None:
        editor.routes.get("/lumina_next/preview/{name}")(answer)
