"""The architecture is read from shapes alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.lumina.checkpoints import architecture, key_names
from lumina_next.lumina.config import NEXT_DIT_2B, NEXT_DIT_2B_GQA, NextDiTConfig
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.tests.support.next_dits import TINY, native_weights


def released_table(kv):
    """All 567 tensors of a released 2B file with keys `kv` wide, written out."""
    table = {
        "pad_token": [2304],
        "x_embedder.weight": [2304, 16],
        "x_embedder.bias": [2304],
        "t_embedder.mlp.0.weight": [1024, 256],
        "t_embedder.mlp.0.bias": [1024],
        "t_embedder.mlp.2.weight": [1024, 1024],
        "t_embedder.mlp.2.bias": [1024],
        "cap_embedder.0.weight": [2048],
        "cap_embedder.0.bias": [2048],
        "cap_embedder.1.weight": [1024, 2048],
        "cap_embedder.1.bias": [1024],
        "final_layer.linear.weight": [32, 2304],
        "final_layer.linear.bias": [32],
        "final_layer.adaLN_modulation.1.weight": [2304, 1024],
        "final_layer.adaLN_modulation.1.bias": [2304],
    }
    layer = {
        "attention.gate": [32],
        "attention.wq.weight": [2304, 2304],
        "attention.wk.weight": [kv, 2304],
        "attention.wv.weight": [kv, 2304],
        "attention.wk_y.weight": [kv, 2048],
        "attention.wv_y.weight": [kv, 2048],
        "attention.wo.weight": [2304, 2304],
        "attention.q_norm.weight": [2304],
        "attention.q_norm.bias": [2304],
        "attention.k_norm.weight": [kv],
        "attention.k_norm.bias": [kv],
        "attention.ky_norm.weight": [kv],
        "attention.ky_norm.bias": [kv],
        "feed_forward.w1.weight": [6144, 2304],
        "feed_forward.w2.weight": [2304, 6144],
        "feed_forward.w3.weight": [6144, 2304],
        "attention_norm1.weight": [2304],
        "attention_norm2.weight": [2304],
        "ffn_norm1.weight": [2304],
        "ffn_norm2.weight": [2304],
        "adaLN_modulation.1.weight": [9216, 1024],
        "adaLN_modulation.1.bias": [9216],
        "attention_y_norm.weight": [2048],
    }
    table |= {f"layers.{i}.{key}": shape for i in range(24) for key, shape in layer.items()}
    return {key: torch.empty(shape, device="meta") for key, shape in table.items()}


@pytest.mark.parametrize(
    "kv, config, parameters",
    [(576, NEXT_DIT_2B_GQA, 1_627_386_400), (2304, NEXT_DIT_2B, 1_988_524_576)],
)
def test_released_files_are_recognized(kv, config, parameters):
    table = released_table(kv)
    assert len(table) == 567
    assert sum(tensor.numel() for tensor in table.values()) == parameters
    assert architecture.checked_config(key_names.to_native(table)) == config


@settings(max_examples=25, deadline=None)
@given(
    head_dim=st.sampled_from([4, 8, 12]),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    layers=st.integers(1, 3),
    caption_dim=st.integers(1, 40),
    ffn_dim=st.integers(1, 40),
    in_channels=st.sampled_from([1, 4, 16]),
    qk_norm=st.booleans(),
    learn_sigma=st.booleans(),
)
def test_architecture_is_read_back_from_any_model(head_dim, kv_heads, group, **fields):
    heads = kv_heads * group
    config = NextDiTConfig(dim=head_dim * heads, heads=heads, kv_heads=kv_heads, **fields)
    model = NextDiT(config, device="meta")
    native = key_names.to_native(model.state_dict())
    assert architecture.config_from_state_dict(native) == config
    assert architecture.checked_config(native) == config


def test_architecture_is_read_from_weights_packed_in_four_bits(weights):
    for key, tensor in list(weights.items()):
        if tensor.ndim == 2:
            weights[key] = torch.zeros(len(tensor), tensor.shape[1] // 2, dtype=torch.uint8)
            weights[key.replace(".weight", ".weight_scale")] = torch.ones(1)
    assert architecture.checked_config(weights) == TINY


def test_sizes_that_no_model_has_are_refused(weights):
    weights["final_layer.linear.bias"] = torch.ones(30)
    with pytest.raises(ValueError, match="reads 16 numbers for each patch and writes 30"):
        architecture.checked_config(weights)
    weights = native_weights() | {"layers.0.attention.gate": torch.ones(5)}
    with pytest.raises(ValueError, match="width 32 cannot be divided into 5 heads"):
        architecture.checked_config(weights)
