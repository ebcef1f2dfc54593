"""What a run may change: settings a user makes, and what they mean for each model call.

Everything here is frozen data that travels with the run. Nothing here knows the network.
"""

from .forward import ForwardOptions
from .run import RunSettings

__all__ = ["ForwardOptions", "RunSettings"]
