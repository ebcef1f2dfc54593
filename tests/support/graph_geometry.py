"""Where the editor draws a saved graph: boxes of nodes and groups, curves of links.

Units are the canvas's. Links are the editor's default, cubic curves that leave to the right and
arrive from the left.
"""

import itertools
import math

TITLE = 30
ROW = 20
POINTS = 37  # of a curve; odd, so that none lies where two in mirror image cross


def node_boxes(workflow):
    """{id: (left, top, right, bottom)}, each with its title."""
    return {
        node["id"]: box((node["pos"][0], node["pos"][1] - TITLE), node["size"], TITLE)
        for node in workflow["nodes"]
    }


def group_boxes(workflow):
    return {g["title"]: box(g["bounding"][:2], g["bounding"][2:]) for g in workflow["groups"]}


def box(corner, size, more=0):
    return *corner, corner[0] + size[0], corner[1] + size[1] + more


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def encloses(outer, inner):
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and outer[2] >= inner[2]
        and outer[3] >= inner[3]
    )


def overlaps(boxes):
    """The pairs that lie on each other, by name."""
    pairs = itertools.combinations(boxes.items(), 2)
    return [(one, other) for (one, a), (other, b) in pairs if overlap(a, b)]


def output_place(node, slot):
    return node["pos"][0] + node["size"][0], node["pos"][1] + 14 + ROW * slot


def input_place(node, slot):
    """Sockets stand in rows; an input with a widget is beside it, below them."""
    sockets = [entry for entry in node["inputs"] if "widget" not in entry]
    rows = max(len(sockets), len(node["outputs"]))
    row = slot if slot < len(sockets) else rows + 1.2 * (slot - len(sockets))
    return node["pos"][0], node["pos"][1] + 14 + ROW * row


def curves(workflow):
    """{link: its points}."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    return {
        number: curve(output_place(nodes[origin], out), input_place(nodes[target], into))
        for number, origin, out, target, into, _ in workflow["links"]
    }


def curve(start, end):
    reach = 0.25 * math.dist(start, end)
    corners = start, (start[0] + reach, start[1]), (end[0] - reach, end[1]), end
    return [bezier(corners, step / POINTS) for step in range(POINTS + 1)]


def bezier(corners, t):
    weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    pairs = list(zip(weights, corners, strict=True))
    return tuple(sum(weight * corner[axis] for weight, corner in pairs) for axis in (0, 1))


def cross(one, other):
    """Whether two curves do, apart from ends that they share."""
    if one[0] == other[0] or one[-1] == other[-1]:
        return False
    pairs = itertools.product(itertools.pairwise(one), itertools.pairwise(other))
    return any(segments_cross(*a, *b) for a, b in pairs)


def segments_cross(a, b, c, d):
    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def side(a, b, point):
    return (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])


def crossings(workflow):
    """The pairs of links that cross."""
    pairs = itertools.combinations(curves(workflow).items(), 2)
    return [(one, other) for (one, a), (other, b) in pairs if cross(a, b)]
