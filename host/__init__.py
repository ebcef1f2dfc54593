"""The one adapter between `lumina` and ComfyUI's internals; the only folder that imports comfy.

The rooms have the names of lumina's, wherever the host has the same thing.
"""
