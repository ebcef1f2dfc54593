"""The fingerprint of a model: the same in other dtypes and orders, another for other weights."""

import pytest
import torch

from lumina_next.lumina.checkpoints.fingerprint import fingerprint

WEIGHTS = {"a": torch.linspace(-1, 1, 64).reshape(8, 8).bfloat16(), "b": torch.tensor(0.5)}


def test_dtype_that_keeps_the_numbers_and_order_change_nothing():
    other = {key: WEIGHTS[key].float() for key in reversed(WEIGHTS)}
    assert fingerprint(other) == fingerprint(WEIGHTS)
    assert len(fingerprint(WEIGHTS)) == 64


@pytest.mark.parametrize(
    "other",
    [
        {"a": WEIGHTS["a"]},
        {"a": WEIGHTS["a"] * 1.01, "b": WEIGHTS["b"]},
        {"a": WEIGHTS["a"].reshape(4, 16), "b": WEIGHTS["b"]},
        {"a": WEIGHTS["a"], "c": WEIGHTS["b"]},
    ],
)
def test_other_weights_have_another(other):
    assert fingerprint(other) != fingerprint(WEIGHTS)
