"""The one adapter between `lumina` and ComfyUI's internals; the only folder that imports comfy.

A folder has the name of lumina's, wherever the host has the same thing.
"""

from . import versions

versions.check()
