"""Parts of a model-parallel run are joined, or refused."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import key_names, loading, shards
from lumina_next.tests.support.next_dits import TINY, native_weights

FIRST_AXIS = ["gate", "wq", "wk", "wv", "wk_y", "wv_y", "w1", "w3", "x_embedder", "mlp.0"]
FIRST_AXIS += ["cap_embedder.1", "adaLN_modulation.1", "linear"]
SECOND_AXIS = ["wo.weight", "w2.weight", "mlp.2.weight"]


def as_rank(weights, rank, ranks=2):
    """One rank's share of the weights, as the training code splits them."""
    share = {}
    for key, tensor in weights.items():
        if key.removesuffix(".weight").removesuffix(".bias").endswith(tuple(FIRST_AXIS)):
            tensor = tensor.chunk(ranks)[rank]
        elif key.endswith(tuple(SECOND_AXIS)):
            tensor = tensor.chunk(ranks, dim=1)[rank]
        share[key] = tensor.clone()
    return share


def test_model_parallel_parts_are_joined(tmp_path):
    weights = native_weights(dataclasses.replace(TINY, qk_norm=False))
    for rank in (0, 1):
        torch.save(as_rank(weights, rank), tmp_path / f"consolidated.0{rank}-of-02.pth")
    model = loading.load_next_dit(tmp_path / "consolidated.00-of-02.pth")
    assert_close(key_names.to_file_keys(model.state_dict()), weights, rtol=0, atol=0)


def test_model_parallel_parts_with_normalized_queries_are_refused(weights):
    parts = [as_rank(weights, rank) for rank in (0, 1)]
    with pytest.raises(ValueError, match="^c.00-of-02.pth is one of 2.*normalizes.*00-of-01"):
        shards.merge(parts, "c.00-of-02.pth")


def test_parts_of_two_models_are_refused():
    weights = native_weights(dataclasses.replace(TINY, qk_norm=False))
    parts = [as_rank(weights, rank) for rank in (0, 1)]
    parts[1]["layers.0.ffn_norm1.weight"] += 1
    with pytest.raises(ValueError, match=r'different models.*"layers\.0\.ffn_norm1\.weight"'):
        shards.merge(parts)
    with pytest.raises(ValueError, match=r'"x_embedder\.bias" is in more than one'):
        shards.merge([{"x_embedder.bias": torch.ones(1), "a": torch.ones(1)}, weights])
