"""What the README says exists: the files it links to, and the error messages it quotes."""

import ast
import re

import pytest

from lumina_next.tools.environment import ROOT

README = (ROOT / "README.md").read_text("utf-8")
LINKS = re.findall(r"\]\((?!https://)([^)]+)\)", README)
FIRST_COLUMN = re.search(r"\| It says \|.*\n.*\n((?:\|.*\n)+)", README)[1].splitlines()
QUOTES = [quote for row in FIRST_COLUMN for quote in re.findall("`([^`]+)`", row.split("|")[1])]


def texts_in_code():
    """Every string that is written in the pack's code, pieces of f-strings included."""
    files = [path for layer in ("lumina", "host", "nodes") for path in (ROOT / layer).rglob("*.py")]
    for path in [ROOT / "__init__.py", *files]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


TEXTS = list(texts_in_code())


def test_there_is_something_to_check():
    assert LINKS and len(QUOTES) > 10


@pytest.mark.parametrize("link", LINKS)
def test_linked_file_exists(link):
    assert (ROOT / link).is_file()


@pytest.mark.parametrize("quote", QUOTES)
def test_quoted_message_is_one_of_ours(quote):
    assert any(quote in text for text in TEXTS)
