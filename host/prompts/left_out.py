"""Embeddings that a prompt names and that could not be used, as one sentence for each reason."""

from collections.abc import Iterator

from ...lumina.checkpoints.wording import listed


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
            widths = " or ".join(str(width) for width in sorted({*self.foreign.values()})[:3])
            yield (
                f"Made for another text encoder, and left out: embedding {_quoted(self.foreign)}, "
                f"of {widths} features where this text encoder has {self.width}."
            )


def _quoted(names: dict[str, object]) -> str:
    return listed([f'"{name}"' for name in names])
