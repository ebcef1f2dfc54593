"""Numbers of a config.json are checked before anything is built by them."""

import pytest

from lumina_next.lumina.checkpoints.config_json import LARGEST_SIZE, group, number, size
from lumina_next.lumina.text_encoders.weights import decoder_config
from lumina_next.tests.support.decoders import tiny_file

WRONG = ["16", [16], True, 0, -1, 1.5, LARGEST_SIZE + 1, float("nan"), float("inf")]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_size_that_is_none_is_named_with_its_file(value):
    with pytest.raises(ValueError, match='"head_dim" in the config.json of te.pt is'):
        size({"head_dim": value}, "head_dim", "te.pt")


def test_what_is_not_there_is_none():
    assert size({"head_dim": None}, "head_dim", "te.pt") is None
    assert number({}, "rms_norm_eps", 0, 1, "te.pt") is None


def test_numbers_are_given_as_they_are():
    assert size({"heads": 8.0}, "heads", "te.pt") == 8
    assert number({"rms_norm_eps": 1e-6}, "rms_norm_eps", 0, 1, "te.pt") == 1e-6


@pytest.mark.parametrize("value", [None, "linear", 3, []])
def test_group_that_is_none_is_empty(value):
    assert group({"rope_parameters": value}, "rope_parameters") == {}


@pytest.mark.parametrize("key", ["head_dim", "num_attention_heads", "rms_norm_eps", "rope_theta"])
def test_decoder_refuses_text_where_a_number_belongs(key):
    with pytest.raises(ValueError, match=f'"{key}" in the config.json of te.pt is .many., where a'):
        decoder_config(tiny_file(), {key: "many"}, source="te.pt")
