"""Names, values and counts of files somebody else made, as they may stand in a user's sentence.

A name in a file can be anything: a megabyte, codes that move a terminal's cursor, or markup that
the editor would follow.
"""

import reprlib

LONGEST_NAME = 120  # characters

_ESCAPES = {"\n": "\\n", "<": "\\x3c", ">": "\\x3e", "[[": "[\\x5b"}
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = LONGEST_NAME


def quoted(name: object) -> str:
    """A name between quotation marks: what does not print or is markup escaped, the end cut."""
    text = printable(str(name)[: LONGEST_NAME + 1])
    for markup, escape in _ESCAPES.items():
        text = text.replace(markup, escape)
    return f'"{text}"' if len(text) <= LONGEST_NAME else f'"{text[:LONGEST_NAME]}…"'


def shown(value: object) -> str:
    """A value as Python writes it, shortened: large lists, long texts and deep nesting are cut."""
    return printable(_repr.repr(value))


def printable(text: str) -> str:
    """The text with all that does not print, save line breaks, as an escape such as "\\x1b"."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def listed(names: list[str], most: int = 3) -> str:
    """The first `most` names, and how many more there are, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, noun: str) -> str:
    """ "1 weight", "2 weights"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
