"""What a node says to the user: in the log, and on the node itself in the editor."""

import logging

from comfy_execution.utils import get_executing_context
from server import PromptServer


def warn(text: str) -> None:
    """Log `text` as a warning and show it under the executing node."""
    logging.warning(text)
    _show(text)


def say(text: str) -> None:
    """Log `text` and show it under the executing node; it replaces what was said there before."""
    logging.info(text)
    _show(text)


def _show(text: str) -> None:
    context = get_executing_context()
    # Without the web server, as in scripts and tests, nobody has made the instance.
    editor = getattr(PromptServer, "instance", None)
    if context is not None and editor is not None:
        editor.send_progress_text(text, context.node_id)
