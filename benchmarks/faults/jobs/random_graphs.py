"""Random graphs from what a host says of its nodes in /object_info.

A graph is made backward from an output node: every input is a value, or a link to a node whose
output has its type. Most values are what the editor could hold; then something is broken. A link to
a node that is not there is never made: ComfyUI's own worker ends by it.
"""

import copy
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping

from lumina_next.tests.support.mutations.case import NAMES, VALUES

LINKS = {"MODEL", "CLIP", "CONDITIONING", "LATENT", "SIGMAS", "SAMPLER", "GUIDER", "NOISE", "VAE"}
LINKS |= {"IMAGE"}
VALUE_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NESTED = {"COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3"}
OUTPUTS = ("SaveLatent", "SaveLatent", "SaveImage", "LuminaNextPlotSigmas")
PACK, PACK_CHANCE = "LuminaNext", 0.6  # of a node of ours, where one fits
DEEPEST, LARGEST = 9, 40  # links from the output node; nodes
# For other kinds of picture, models that are not there, minutes of work, or the network.
ELSEWHERE = ("train", "compile", "audio", "video", "3d", "ltx", "wan", "cosmos", "hunyuan", "load")
ELSEWHERE += (
    "stable",
    "qwen",
    "mochi",
    "upscale",
    "dataset",
    "device",
    "gpu",
    "pid",
    "api",
    "void",
)
ELSEWHERE += ("seedvr", "arvideo", "tripo", "splat", "controlnet", "merge", "context")
SMALL = {"width": (16, 96), "height": (16, 96), "batch_size": (1, 2), "steps": (1, 5)}
SMALL |= {"amount": (1, 2), "max_steps": (1, 20), "length": (1, 2), "batch_index": (0, 2)}
SMALL |= {"size": (16, 96), "target_width": (16, 96), "target_height": (16, 96), "repeats": (1, 2)}
SMALL_SIZES = ("128 x 128", "Custom")  # of "Lumina-Next Size"
LARGE = ("pixel_space",)  # a VAE whose latents have as many places as a picture has pixels
AT_LEAST = {"denoise": 0.05, "scale_by": 0.5, "megapixels": 0.01}
AT_MOST = {"scale_by": 2.0, "megapixels": 0.02, "order": 3, "max_order": 3}
TEXTS = ["", "a red circle", "a red cat", "(a red:1.3) cat", "((((", "a:9999)", "\\(", "{prompt}"]
TEXTS += ["embedding:absent", "<b>&#1;</b>", "\x1b[31m", "a " * 2000, "猫", "\ud83d", "0,1", "1.5"]


class Graphs:
    """Endless random graphs in API format. nodes: what /object_info holds."""

    def __init__(self, nodes: Mapping[str, dict], seed: int) -> None:
        self.nodes, self.seed = nodes, seed
        self.makers: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for name, node in nodes.items():
            for index, kind in enumerate(node["output"]):
                if kind in LINKS and is_of_use(name, node):
                    self.makers[kind].append((name, index))

    def __iter__(self) -> Iterator[dict]:
        for number in range(10**9):
            yield _Graph(self, random.Random(f"{self.seed} {number}")).broken()


def is_of_use(name: str, node: Mapping) -> bool:
    if name.startswith(PACK) or name in ("VAELoader", "LoraLoader", "LoraLoaderModelOnly"):
        return True
    if any(word in name.lower() for word in ELSEWHERE):
        return False
    return all(kind_of(given) in LINKS | VALUE_TYPES for given in required(node).values())


def required(node: Mapping) -> dict:
    return node["input"].get("required", {})


def kind_of(given: list) -> str:
    return "COMBO" if isinstance(given[0], list) else given[0]


def settings_of(given: list) -> dict:
    return given[1] if len(given) > 1 else {}


class _Graph:
    """One graph, while it grows."""

    def __init__(self, graphs: Graphs, chance: random.Random) -> None:
        self.graphs, self.chance = graphs, chance
        self.nodes: dict[str, dict] = {}
        self.whole: set[str] = set()  # a link to any other would close a circle

    def broken(self) -> dict:
        """A graph with nothing to three things wrong."""
        self.node(self.chance.choice(OUTPUTS), 0)
        for _ in range(self.chance.choice([0, 0, 1, 1, 2, 3])):
            self.chance.choice(BREAKS)(self)
        return copy.deepcopy(self.nodes)

    def node(self, name: str, depth: int) -> str:
        """Add a node with all that it needs; returns its id."""
        number = str(len(self.nodes) + 1)
        self.nodes[number] = {"class_type": name, "inputs": {}}
        for key, given in required(self.graphs.nodes[name]).items():
            self.nodes[number]["inputs"].update(self.input(key, given, depth))
        self.whole.add(number)
        return number

    def input(self, key: str, given: list, depth: int) -> dict[str, object]:
        """The inputs that a row of /object_info stands for: more than one where it is nested."""
        kind, settings = kind_of(given), settings_of(given)
        if kind == "COMFY_DYNAMICCOMBO_V3":
            options = settings["options"]
            small = [option for option in options if option["key"] in SMALL_SIZES]
            option = self.chance.choice(small or options)
            found: dict[str, object] = {key: option["key"]}
            for name, inner in option["inputs"].get("required", {}).items():
                found |= self.input(f"{key}.{name}", inner, depth)
            return found
        if kind == "COMFY_AUTOGROW_V3":
            (inner,) = settings["template"]["input"]["required"].values()
            prefix, count = settings["template"]["prefix"], self.chance.choice([1, 1, 2])
            return {f"{key}.{prefix}{i}": self.value("", inner, depth) for i in range(count)}
        return {key: self.value(key.rpartition(".")[2], given, depth)}

    def value(self, key: str, given: list, depth: int) -> object:
        kind, settings = kind_of(given), settings_of(given)
        if kind in LINKS:
            return self.link(kind, depth)
        if kind == "COMBO":
            options = given[0] if isinstance(given[0], list) else settings.get("options") or [""]
            options = [option for option in options if option not in LARGE]
            return self.chance.choice(options or [""])
        if kind in ("INT", "FLOAT"):
            return self.number(key, kind, settings)
        if kind == "BOOLEAN":
            return self.chance.random() < 0.5
        return self.chance.choice(TEXTS) if kind == "STRING" else None

    def number(self, key: str, kind: str, settings: Mapping) -> float:
        low, high = settings.get("min", 0), settings.get("max", 8)
        if kind == "INT":
            low, high = SMALL.get(key, (low, high))
            near = min(high, low + 16)
            return self.chance.choice([low, near, self.chance.randint(low, near)])
        low, high = max(low, AT_LEAST.get(key, low)), min(high, AT_MOST.get(key, high))
        default = settings.get("default", low)
        return self.chance.choice([low, min(high, 1e4), default, self.chance.uniform(low, high)])

    def link(self, kind: str, depth: int) -> list:
        """To a node that is there already, or to a new one."""
        there = [
            [number, index]
            for number, node in self.nodes.items()
            for index, made in enumerate(self.graphs.nodes[node["class_type"]]["output"])
            if made == kind and number in self.whole
        ]
        is_full = depth > DEEPEST or len(self.nodes) > LARGEST
        if there and (is_full or self.chance.random() < 0.5):
            return self.chance.choice(there)
        makers = self.graphs.makers[kind]
        ours = [maker for maker in makers if maker[0].startswith(PACK)]
        simple = [maker for maker in makers if not self.links_of(maker[0])]
        if is_full and simple:
            makers = simple
        elif ours and self.chance.random() < PACK_CHANCE:
            makers = ours
        name, index = self.chance.choice(makers)
        return [self.node(name, depth + 1), index]

    def links_of(self, name: str) -> list[str]:
        inputs = required(self.graphs.nodes[name]).values()
        return [kind_of(given) for given in inputs if kind_of(given) in LINKS]

    def some_input(self) -> tuple[dict, str] | None:
        found = [(n["inputs"], key) for n in self.nodes.values() for key in n["inputs"]]
        return self.chance.choice(found) if found else None


def odd_value(graph: _Graph) -> None:
    if found := graph.some_input():
        inputs, key = found
        values = [v for v in [*VALUES, *NAMES, *TEXTS] if not is_link(v)]
        inputs[key] = graph.chance.choice(values)


def is_link(value: object) -> bool:
    return isinstance(value, list)


def limit(graph: _Graph) -> None:
    """A number at its limit or beyond, but for those that are asked for by the hour."""
    numbers = [
        (inputs, key)
        for node in graph.nodes.values()
        for inputs in [node["inputs"]]
        for key, value in inputs.items()
        if isinstance(value, int | float) and key.rpartition(".")[2] not in {**SMALL, **AT_LEAST}
    ]
    if numbers:
        inputs, key = graph.chance.choice(numbers)
        inputs[key] = graph.chance.choice([0, -1, 1e-9, 2**64 - 1, 2**64, 1e30, 0.001, 99])


def wrong_link(graph: _Graph) -> None:
    """To a node of the graph, at an output that has another type or is not there."""
    if found := graph.some_input():
        inputs, key = found
        others = [n for n, node in graph.nodes.items() if node["inputs"] is not inputs]
        if others:
            inputs[key] = [graph.chance.choice(others), graph.chance.choice([0, 0, 1, 2, 7, -1])]


def lost_input(graph: _Graph) -> None:
    if found := graph.some_input():
        del found[0][found[1]]


def extra_input(graph: _Graph) -> None:
    if found := graph.some_input():
        found[0][graph.chance.choice([*NAMES, "model", "preset.steps"])] = graph.chance.choice(
            VALUES
        )


def other_class(graph: _Graph) -> None:
    node = graph.chance.choice(list(graph.nodes.values()))
    node["class_type"] = graph.chance.choice([*graph.graphs.nodes, "Absent", "", "luminanextsize"])


BREAKS = [odd_value, odd_value, limit, wrong_link, lost_input, extra_input, other_class]
