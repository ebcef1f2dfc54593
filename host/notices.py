"""Messages of a node to the user: in the log, and on the node itself in the editor.

The editor shows one text under a node, as HTML or, in Nodes 2.0, as Markdown. So a node's messages
are collected while it executes, and signs that would be markup are escaped: prompts and file names
may hold any.
"""

import html
import logging
import re

from comfy_execution.utils import ExecutionContext, get_executing_context
from server import PromptServer

# Two spaces make it one in Markdown as well, which Nodes 2.0 takes the text for.
LINE_END = "  \n"
# Of Markdown and HTML, of the editor's own links, [[text|address]], and of addresses alone.
_MARKUP = re.compile(r"[*_`#~|\\\[\]@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def warn(text: str) -> None:
    """Log `text` as a warning and show it under the executing node."""
    _tell(text, logging.WARNING)


def say(text: str) -> None:
    """Log `text` and show it under the executing node, below what it has said in this execution."""
    _tell(text, logging.INFO)


def _tell(text: str, level: int) -> None:
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)  # a terminal would obey some
    logging.log(level, text)
    _show(text)


def _show(text: str) -> None:
    context = get_executing_context()
    # There is no instance without the web server, as in scripts and tests.
    editor = getattr(PromptServer, "instance", None)
    if context is None or editor is None:
        return
    texts = _collected.of(context)
    if text not in texts:
        texts.append(text)
    shown = "\n".join(map(escaped, texts)).replace("\n", LINE_END)
    editor.send_progress_text(shown, context.node_id)


class _Collected:
    """What the executing node has said so far, for all the inputs that it is given in a list."""

    def __init__(self) -> None:
        self.context: ExecutionContext | None = None
        self.texts: list[str] = []

    def of(self, context: ExecutionContext) -> list[str]:
        is_next_in_list = (
            self.context is not None and context.list_index and (self.context[:2] == context[:2])
        )
        if context is not self.context and not is_next_in_list:
            self.texts = []
        self.context = context
        return self.texts


_collected = _Collected()


def escaped(text: str) -> str:
    """`text` so that the editor shows every character of it as it is."""
    text = html.escape(text, quote=False)
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", text)
