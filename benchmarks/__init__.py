"""Measurements of speed, and of choices that the paper leaves open, with their last results.

Scripts run from the repository root as `python -m benchmarks.<name>` and leave their numbers in
benchmarks/results; nothing in the node pack imports them.
"""
