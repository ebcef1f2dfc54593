"""The demonstration model: what its pictures are, how it was trained and how it is judged.

Scripts run from the repository root as `python -m demo.<name>`; nothing in the node pack imports
them.
"""
