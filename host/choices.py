"""How ComfyUI hands over a DynamicCombo: one dict of the chosen name and the inputs behind it."""

from collections.abc import Iterable, Mapping

Choice = Mapping[str, object] | None


def chosen(value: Choice, path: str, known: Iterable[str]) -> tuple[str, dict[str, object]]:
    """The name chosen in the input at `path`, one of `known`, and the values of its own inputs.

    Raises ValueError listing `known` where nothing was chosen.
    """
    # A choice that is not in the list is left out without a word, as if it had not been sent.
    if value is None:
        raise ValueError(f'"{path}" is missing or not in the list. It can be: {", ".join(known)}.')
    settings = dict(value)
    return settings.pop(path.rpartition(".")[2]), settings
