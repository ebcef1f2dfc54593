"""Numbers of a config.json are checked before anything is built by them."""

import pytest
import torch

from lumina_next.lumina.checkpoints import limits
from lumina_next.lumina.checkpoints.config_json import check_sizes, group, number, size
from lumina_next.lumina.text_encoders.weights import decoder_config
from lumina_next.tests.support.decoders import tiny_file

WRONG = ["16", [16], True, 0, -1, 1.5, limits.SIZE + 1, float("nan"), float("inf")]


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


@pytest.mark.parametrize(
    "config_json",
    [
        {"num_hidden_layers": 20_000},
        {"n_layer": 257},
        {"num_labels": 10**8},
        {"hidden_size": 10**9},
        {"hidden_size": 65},
        {"vocab_size": 65},
        {"max_position_embeddings": 2**25},
        {"anything": 10**4000},
        {"text_config": {"encoder": {"d_model": 10**9}}},
        {"hidden_sizes": [8, 10**9]},
    ],
    ids=lambda config_json: str(config_json)[:50],
)
def test_number_that_no_network_of_these_weights_has_is_refused(config_json):
    weights = {"embed_tokens.weight": torch.empty(64, 16, device="meta"), "scale": torch.ones(())}
    with pytest.raises(ValueError, match=r"in the config\.json of te\.pt is \d.*, where at most"):
        check_sizes(config_json, weights, "te.pt")


def test_numbers_of_published_models_are_taken():
    weights = {"embed_tokens.weight": torch.empty(256_000, 8, device="meta")}
    config_json = {
        "hidden_size": 2048, "num_hidden_layers": 126, "vocab_size": 256_000, "use_cache": True,
        "max_position_embeddings": 10_485_760, "rope_theta": 1_000_000_000, "eos_token_id": [1, 2],
        "model_max_length": 10**30, "rms_norm_eps": 1e-6, "layer_types": ["full"] * 126,
        "rope_parameters": {"rope_theta": 5e9}, "pad_token_id": -1, "num_labels": 21_843,
    }  # fmt: skip
    check_sizes(config_json, weights, "te.pt")


@pytest.mark.parametrize("value", [None, "linear", 3, []])
def test_group_that_is_none_is_empty(value):
    assert group({"rope_parameters": value}, "rope_parameters") == {}


@pytest.mark.parametrize("key", ["head_dim", "num_attention_heads", "rms_norm_eps", "rope_theta"])
def test_decoder_refuses_text_where_a_number_belongs(key):
    with pytest.raises(ValueError, match=f'"{key}" in the config.json of te.pt is .many., where a'):
        decoder_config(tiny_file(), {key: "many"}, source="te.pt")
