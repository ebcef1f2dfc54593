"""Messages of a node to the user: in the log, and on the node itself in the editor."""

import logging

from comfy_execution.utils import get_executing_context
from server import PromptServer


def warn(text: str) -> None:
    """Log `text` as a warning and show it under the executing node."""
    logging.warning(text)
    _show(text)


def say(text: str) -> None:
    """Log `text` and show it under the executing node; it replaces the text shown there before."""
    logging.info(text)
    _show(text)


def _show(text: str) -> None:
    context = get_executing_context()
    # There is no instance without the web server, as in scripts and tests.
    editor = getattr(PromptServer, "instance", None)
    if context is not None and editor is not None:
        editor.send_progress_text(text, context.node_id)
