"""The example graphs that ComfyUI lists as templates: workflows/*.json with a picture for each.
And subgraphs/*.json, a graph that it offers as a node.

    python -m tools.templates            writes them anew
    python -m tools.templates --check    only says which are out of date

Each is described in a few lines of Python. Nodes get their inputs, outputs and places for values
from what a running ComfyUI says of them.
"""
