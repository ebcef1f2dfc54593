"""All templates, in the order in which they are listed."""

from __future__ import annotations

from collections.abc import Iterator

from . import first, large, pictures, prompting, regional, released
from .graph import Graph

DESCRIBED = (
    *first.TEMPLATES,
    *pictures.TEMPLATES,
    *large.TEMPLATES,
    *prompting.TEMPLATES,
    *released.TEMPLATES,
    *regional.TEMPLATES,
)


def templates() -> Iterator[tuple[str, Graph]]:
    """Name of each file, without its ending, and the graph. Searching "lumina" finds the names."""
    for number, describe in enumerate(DESCRIBED, start=1):
        graph = describe()
        yield f"Lumina-Next {number} - {graph.name}", graph
