"""How ComfyUI hands over a DynamicCombo: one dict of the chosen name and the inputs behind it."""

from collections.abc import Collection, Mapping

Choice = Mapping[str, object] | None


def chosen(value: Choice, path: str, known: Collection[str]) -> tuple[str, dict[str, object]]:
    """The name chosen in the input at `path`, one of `known`, and the values of its own inputs.

    Raises ValueError listing `known` where none of them was chosen.
    """
    settings = dict(value or {})
    # The host leaves out a choice that is not in the list without a word, as if it was not sent.
    name = settings.pop(path.rpartition(".")[2], None)
    if name not in known:
        raise ValueError(f'"{path}" is missing or not in the list. It can be: {", ".join(known)}.')
    return name, settings
