"""Calls in a pickle: those of which weights consist, and no other."""

import random

import pytest
import torch

from lumina_next.lumina.checkpoints import files
from lumina_next.tests.support.mutations import pickles
from lumina_next.tests.support.mutations.case import Case


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.pth"


def test_tensor_larger_than_its_data_is_refused(path):
    torch.save({"w": torch.ones(1).expand(10**9)}, path)
    with pytest.raises(ValueError, match=r"^m\.pth .* a tensor in it is larger than its data"):
        files.read_file(path)


CALLS = {
    "builtins.bytearray": b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R",
    "torch.Tensor": b"ctorch\nTensor\n\x8a\x05\x00\x00\x00\x00\x10\x85R",
    "an encoding": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x08\x00\x00\x00punycodetR",
    "NEWOBJ": b"ctorch.nn.parameter\nParameter\n)\x81",
    "PERSID": b"P0\n",
    "code": b"cos\nsystem\n(X\x04\x00\x00\x00truetR",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_calls_that_weights_do_not_need_are_refused(path, call):
    case = Case(random.Random(0), {"w": torch.ones(3, 5)}, {})
    content = pickles.with_pickle(case, b"\x80\x02}X\x01\x00\x00\x00w" + call + b"s.")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^m\.pth"):
        files.read_file(path)
