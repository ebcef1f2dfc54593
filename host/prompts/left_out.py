"""Embeddings that a prompt names and that could not be used, as one sentence for each reason."""

from collections.abc import Iterator

from ...lumina.checkpoints.files import listed


class LeftOut:
    """The embeddings left out of one prompt; width: features of the text encoder's."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.missing: dict[str, None] = {}  # a set in the order of the prompt
        self.foreign: dict[str, int] = {}  # with their features

    def sentences(self) -> Iterator[str]:
        """What to tell the user, however many they are."""
        if self.missing:
            names, one = _quoted(self.missing), len(self.missing) == 1
            yield (
                f"There {'is no embedding' if one else 'are no embeddings'} {names} in "
                f"models/embeddings; {'it was' if one else 'they were'} left out."
            )
        if self.foreign:
            names, one = _quoted(self.foreign), len(self.foreign) == 1
            widths = " or ".join(str(width) for width in sorted({*self.foreign.values()})[:3])
            yield (
                f"The {'embedding' if one else 'embeddings'} {names} {'has' if one else 'have'} "
                f"{widths} features, this text encoder {self.width}: "
                f"{'it was' if one else 'they were'} made for another one, and "
                f"{'was' if one else 'were'} left out."
            )


def _quoted(names: dict[str, object]) -> str:
    return listed([f'"{name}"' for name in names])
