"""Messages of a node: all of one execution together, and no character of them is markup."""

import html
import logging
import re

import pytest


@pytest.fixture
def editor(host, monkeypatch):
    """What the editor is sent, the last text of each node is the one that stays."""
    from server import PromptServer

    class Editor:
        sent = []

        def send_progress_text(self, text, node_id):
            self.sent.append((node_id, text.replace("  \n", "\n")))

    monkeypatch.setattr(PromptServer, "instance", Editor(), raising=False)
    return Editor()


def executing(node="7", **rest):
    from comfy_execution.utils import CurrentNodeContext

    return CurrentNodeContext(prompt_id="job", node_id=node, **rest)


def notices():
    from lumina_next.host import notices

    return notices


def test_messages_of_one_execution_are_shown_together(editor):
    with executing():
        notices().warn("A word is not known.")
        notices().say("9 of 256 tokens")
        notices().say("9 of 256 tokens")
    assert editor.sent[-1] == ("7", "A word is not known.\n9 of 256 tokens")
    with executing():
        notices().say("5 of 256 tokens")
    assert editor.sent[-1] == ("7", "5 of 256 tokens")


def test_messages_for_the_entries_of_a_list_are_shown_together(editor):
    for index in (0, 1):
        with executing(list_index=index):
            notices().say(f"prompt {index}")
    assert editor.sent[-1] == ("7", "prompt 0\nprompt 1")
    with executing("8", list_index=1):
        notices().say("another node")
    assert editor.sent[-1] == ("8", "another node")


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b> <a href='https://example.com'>x</a> &lt; &amp;",
        "[[press|https://example.com]] [press](https://example.com) __LNK0__",
        "https://example.com www.example.com a@example.com",
        "*a* _b_ `c` # d ~~e~~ a|b \\* ![x](y)",
    ],
)
def test_no_character_is_markup(editor, text):
    with executing():
        notices().say(text)
    ((_, sent),) = editor.sent
    assert html.unescape(sent) == text
    bare = re.sub(r"&(#\d+|lt|gt|amp);", "", sent)
    assert not re.search(r"[<>&*_`#~|\\\[\]@]|://|www\.", bare)


def test_codes_that_a_terminal_obeys_are_not_logged(editor, caplog):
    with caplog.at_level(logging.INFO):
        notices().say("one \x1b[31mred\x07\ntwo")
    assert caplog.messages == ["one \ufffd[31mred\ufffd\ntwo"]
