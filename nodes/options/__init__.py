"""Nodes that set something on a MODEL."""

from . import context_drop, guidance, resolution, step_cache

NODES = [*resolution.NODES, *context_drop.NODES, *guidance.NODES, *step_cache.NODES]
