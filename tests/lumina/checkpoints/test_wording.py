"""Names from files may be anything, and sentences stay readable."""

from hypothesis import given
from hypothesis import strategies as st

from lumina_next.lumina.checkpoints.wording import LONGEST_NAME, printable, quoted, shown


def test_usual_names_are_as_they_are():
    assert quoted("layers.0.attention.wq.weight") == '"layers.0.attention.wq.weight"'
    assert quoted("models[0].größe") == '"models[0].größe"'


def test_codes_and_markup_are_escaped():
    assert quoted("\x1b[31m") == '"\\x1b[31m"'
    assert quoted("<b>") == '"\\x3cb\\x3e"'
    assert "[[" not in quoted("[[[x|url]]")
    assert quoted("\udcff") == '"\\udcff"'
    assert printable("two\nlines\r\t") == "two\nlines\\r\\t"


@given(st.text())
def test_any_name_is_printable_and_short(name):
    text = quoted(name * 50)
    assert text.isprintable() and len(text) <= LONGEST_NAME + 3
    assert not {"<", ">"} & set(text) and "[[" not in text


def test_any_value_is_shown_short():
    itself = []
    itself.append(itself)
    values = [itself, "x" * 10**6, list(range(10**6)), {i: i for i in range(10**6)}, 10**400, 1e400]
    assert all(len(shown(value)) < 300 for value in values)
    assert shown("large") == "'large'" and shown(1.5) == "1.5"
