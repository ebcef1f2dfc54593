"""Inputs of the editor, made from what `lumina` says of its numbers and choices."""

from collections.abc import Mapping

from comfy_api.latest import io

from ..lumina.parameters import Parameter


def number_input(name: str, parameter: Parameter, **rest: object) -> io.Int.Input | io.Float.Input:
    """An input for `parameter`; `rest` is for what only the editor knows."""
    rest |= {
        "default": parameter.default,
        "min": parameter.low,
        "max": parameter.high,
        "step": parameter.step,
        "tooltip": parameter.meaning,
        "advanced": parameter.is_advanced or None,
    }
    if parameter.is_whole:
        return io.Int.Input(name, **rest)
    return io.Float.Input(name, round=parameter.precision, **rest)


def listed(entries: Mapping[str, str]) -> str:
    """What each choice means, one a line: both renderers keep the line ends of a tooltip."""
    return "\n".join(f"{name}: {meaning}" for name, meaning in entries.items())


def choice_input(
    name: str,
    options: Mapping[str, list[io.Input]],
    tooltip: str,
    *,
    default: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> io.DynamicCombo.Input:
    """A list of names, each of which opens inputs of its own.

    default: what a new node has in place of the first one. labels: what the editor shows in place
    of names. Both are read by web/choices.js: of a DynamicCombo the editor itself knows neither.
    """
    named = [io.DynamicCombo.Option(option, inputs) for option, inputs in options.items()]
    extra = {key: value for key, value in (("default", default), ("labels", labels)) if value}
    return io.DynamicCombo.Input(name, options=named, tooltip=tooltip, extra_dict=extra)
