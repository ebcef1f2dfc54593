"""Warnings that reach the user: in the log, and on the node that is running in the editor."""

import logging

from comfy_execution.utils import get_executing_context
from server import PromptServer


def warn(text: str) -> None:
    """Log `text` and show it under the executing node, where there is an editor to show it."""
    logging.warning(text)
    context = get_executing_context()
    # Without the web server, as in scripts and tests, nobody has made the instance.
    editor = getattr(PromptServer, "instance", None)
    if context is not None and editor is not None:
        editor.send_progress_text(text, context.node_id)
