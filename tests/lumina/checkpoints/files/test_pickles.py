"""The pickle machine: plain values and names, never an import."""

import pickle
import pickletools
import sys

import pytest

from lumina_next.lumina.checkpoints.files.pickles import describe


def described(content):
    return describe(pickletools.genops(content)).value


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 70_000, -1, 2**40, 0.5, "text", "größe", (), (1,), (1, 2), (1, 2, 3),
        (1, 2, 3, 4), [], [1, [2]], {}, {"a": {1: (2.5, None)}}, [(i, i) for i in range(2000)],
        b"bytes", {"a": 1, ("b", 2): 3},
    ],
    ids=repr,
)  # fmt: skip
def test_plain_values_are_read_as_pickle_reads_them(value):
    assert described(pickle.dumps(value, 2)) == value


def test_values_that_hold_themselves_are_read():
    value = [1]
    value.append(value)
    found = described(pickle.dumps(value, 2))
    assert found[1] is found


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02.", b"\x80\x02u.", b"\x80\x02h\x05.", b"\x80\x02K\x01a.", b"\x80\x02}]Ns.",
        b"\x80\x02\x86.", b"\x80\x02)Q.", b"\x80\x02}(K\x01u.", b"\x80\x02NN\x85R.",
        b"\x80\x02}Nb\x85b.", b"\x80\x02ctorch\nSize\n)R.", b"I3\n.", b"\x80\x02NNs.",
    ],
)  # fmt: skip
def test_nonsense_is_a_value_error(content):
    with pytest.raises(ValueError, match="^its? "):
        described(content)


def test_nothing_is_imported():
    assert "antigravity" not in sys.modules
    with pytest.raises(ValueError, match='calls "antigravity.fly", .* may run code when opened'):
        described(b"\x80\x02cantigravity\nfly\n)R.")
    assert "antigravity" not in sys.modules
