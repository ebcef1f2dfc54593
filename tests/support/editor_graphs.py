"""Graphs as the editor saves them, turned into what the server runs: for the tests of templates.

A saved graph lists nodes and links; a node's values stand in a bare list, in the order of those
inputs that have a widget, with one more after a seed: what becomes of it after each run.
"""

NOTES = {"Note", "MarkdownNote"}  # drawn by the editor; the server does not know them
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
ACTIVE, BYPASSED = 0, 4
AFTER_EACH_RUN = {"fixed", "increment", "decrement", "randomize"}


def by_id(workflow):
    return {node["id"]: node for node in workflow["nodes"]}


def links(workflow):
    """{id: (from node, its output slot, to node, its input slot, type)}."""
    return {link[0]: tuple(link[1:]) for link in workflow["links"]}


def declared(known, node):
    """{input: (type or list of choices, settings)} of a node, as the server has it now.

    Those that a dynamic combo's saved value brings with it are called "combo.input", and those that
    a growing input has become "inputs.input0" and so on.
    """
    return _read(known, node)[0]


def choices(kind, settings):
    """What a combo offers, in any of the forms it is declared in; None if it is none."""
    if kind == DYNAMIC_COMBO:
        return [option["key"] for option in settings["options"]]
    return kind if isinstance(kind, list) else settings.get("options") if kind == "COMBO" else None


def widgets(known, node):
    """[(input, value)] of a node that is not a note, `AFTER_EACH_RUN` left out.

    Raises ValueError where the saved values are not as many as the node has places for.
    """
    return _read(known, node)[1]


def _all_of(inputs):
    return {**inputs.get("required", {}), **inputs.get("optional", {})}


def _grown(inputs, node):
    """The inputs with each growing one replaced by what the node has of it."""
    slots = [slot["name"] for slot in node.get("inputs", ())]
    result = {}
    for name, (kind, *rest) in inputs.items():
        if kind == AUTOGROW:
            ((one, *_),) = _all_of(rest[0]["template"]["input"]).values()
            result |= {slot: (one, {}) for slot in slots if slot.startswith(f"{name}.")}
        else:
            result[name] = (kind, *rest)
    return result


def _read(known, node):
    inputs = _grown(_all_of(known[node["type"]]["input"]), node)
    named, left = [], list(node.get("widgets_values", []))
    for name in (slot["widget"]["name"] for slot in node.get("inputs", ()) if "widget" in slot):
        named.append((name, left.pop(0)))
        kind, *settings = inputs[name]
        if kind == DYNAMIC_COMBO:
            for option in settings[0]["options"]:
                if option["key"] == named[-1][1]:
                    inputs |= {f"{name}.{k}": v for k, v in _all_of(option["inputs"]).items()}
        if settings and settings[0].get("control_after_generate"):
            after = left.pop(0)
            if after not in AFTER_EACH_RUN:
                raise ValueError(f'{node["type"]}: "{after}" is nothing to do with {name}')
    if left:
        raise ValueError(f"{node['type']} has no places for the values {left}")
    return inputs, named


def to_api(workflow, known):
    """The graph in API format, as the editor's own conversion gives it."""
    return {
        str(node["id"]): {
            "class_type": node["type"],
            "inputs": {**dict(widgets(known, node)), **linked_inputs(workflow, node)},
            "_meta": {"title": node.get("title", known[node["type"]]["display_name"])},
        }
        for node in workflow["nodes"]
        if node["mode"] == ACTIVE and node["type"] not in NOTES
    }


def linked_inputs(workflow, node):
    linked = {s["name"]: s["link"] for s in node["inputs"] if s.get("link") is not None}
    return {name: source(workflow, link) for name, link in linked.items()}


def source(workflow, link):
    """[node, output slot] that a link brings a value from, through nodes that are bypassed."""
    origin, slot, _, _, kind = links(workflow)[link]
    node = by_id(workflow)[origin]
    if node["mode"] != BYPASSED:
        return [str(origin), slot]
    through = next(entry for entry in node["inputs"] if entry["type"] == kind)
    return source(workflow, through["link"])


def by_title(graph):
    """A graph in API format with nodes called by their titles, which must differ."""
    titles = {name: node["_meta"]["title"] for name, node in graph.items()}
    assert len(set(titles.values())) == len(titles), f"titles are not unique: {titles}"

    def renamed(value):
        return [titles[value[0]], value[1]] if isinstance(value, list) else value

    return {
        titles[name]: (node["class_type"], {k: renamed(v) for k, v in node["inputs"].items()})
        for name, node in graph.items()
    }
