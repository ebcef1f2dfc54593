"""Nodes that set something on a MODEL."""

from . import context_drop, guidance, resolution

NODES = [*resolution.NODES, *context_drop.NODES, *guidance.NODES]
