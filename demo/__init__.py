"""The demo model: what its pictures are, how it was trained and how it is judged.

Scripts run from the repository root as `python -m demo.<folder>.<name>`; nothing in the node pack
imports them.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
GRAPH = FOLDER / "text-to-image.api.json"
