"""A graph in short: nodes with their values and links, where they stand, groups around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TITLE = 30  # units, the bar above a node's body
LIVE_PREVIEW = 220  # units: what the editor adds to a sampler while it draws

Point = tuple[int, int]


@dataclass(frozen=True)
class Output:
    """One output of a node, to be an input of others."""

    node: Node
    slot: int


@dataclass(eq=False)
class Node:
    """values: of inputs with a widget; those left out keep their default. links: from where the
    others come. downloads: files that the editor offers to download.
    """

    type: str
    place: Point
    extent: Point
    values: Mapping[str, object]
    links: Mapping[str, Output]
    title: str = ""
    is_bypassed: bool = False
    downloads: Sequence[Mapping[str, str]] = ()
    id: int = 0

    @property
    def given(self) -> dict[str, object]:
        """Every input that the description names."""
        return {**self.values, **self.links}

    def __getitem__(self, slot: int) -> Output:
        return Output(self, slot)


@dataclass(frozen=True)
class Group:
    """A frame. box: left, top, width and height."""

    title: str
    box: tuple[int, int, int, int]


@dataclass
class Graph:
    """A template. name: of its file, without the number. app: (node, input) for the simple view
    that hides the graph, in order; its outputs are all that save a picture. after_run: what becomes
    of seeds.
    """

    name: str
    nodes: list[Node] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    app: list[tuple[Node, str]] = field(default_factory=list)
    after_run: str = "randomize"

    @property
    def needs_downloads(self) -> bool:
        """Whether it takes files that do not come with the pack."""
        return any(node.downloads for node in self.nodes)

    def add(
        self,
        kind: str,
        place: Point,
        extent: Point,
        more: Mapping[str, object] | None = None,
        *,
        title: str = "",
        is_bypassed: bool = False,
        downloads: Sequence[Mapping[str, str]] = (),
        **inputs: object,
    ) -> Node:
        """A node. inputs: values, and where others come from: a Node means its first output.

        more: further inputs, such as "size.width".
        """
        inputs |= more or {}
        links = {name: linked for name, value in inputs.items() if (linked := as_output(value))}
        values = {name: value for name, value in inputs.items() if name not in links}
        node = Node(kind, place, extent, values, links, title, is_bypassed, downloads)
        node.id = len(self.nodes) + 1
        self.nodes.append(node)
        return node

    def note(self, place: Point, extent: Point, text: str, title: str = "Read me") -> Node:
        """A note in Markdown. Without colors of its own it is legible in every theme."""
        node = Node("MarkdownNote", place, extent, {"text": text}, {}, title)
        node.id = len(self.nodes) + 1
        self.nodes.append(node)
        return node

    def group(self, title: str, *nodes: Node, below: int = 0) -> None:
        """A frame around nodes. below: what it leaves free under them."""
        margin, title_bar = 20, 40
        left = min(node.place[0] for node in nodes) - margin
        top = min(node.place[1] for node in nodes) - TITLE - title_bar
        right = max(node.place[0] + node.extent[0] for node in nodes) + margin
        bottom = max(node.place[1] + node.extent[1] for node in nodes) + margin + below
        self.groups.append(Group(title, (left, top, right - left, bottom - top)))


def as_output(value: object) -> Output | None:
    return value[0] if isinstance(value, Node) else value if isinstance(value, Output) else None
