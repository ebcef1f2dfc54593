"""Weights and files that several tests of checkpoints read."""

import pytest
from safetensors.torch import save_file

from lumina_next.tests.support.next_dits import WEIGHTS, native_weights
from lumina_next.tests.support.random_weights import randomize


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(WEIGHTS, path)
    return path


@pytest.fixture
def weights():
    return native_weights()


@pytest.fixture(scope="module", params=[(4, True), (2, True), (1, False)], ids=str)
def theirs(request):
    """A random diffusers model saved as its conversion would: both queries the same."""
    from diffusers import LuminaNextDiT2DModel  # seconds to import

    kv_heads, qk_norm = request.param
    model = LuminaNextDiT2DModel(
        sample_size=16, hidden_size=32, num_layers=2, num_attention_heads=4, num_kv_heads=kv_heads,
        multiple_of=8, cross_attention_dim=24, qk_norm=qk_norm, norm_eps=1e-5,
    )  # fmt: skip
    randomize(model, std=0.2)
    for layer in model.layers:
        layer.attn2.to_q.load_state_dict(layer.attn1.to_q.state_dict())
        if qk_norm:
            layer.attn2.norm_q.load_state_dict(layer.attn1.norm_q.state_dict())
    return model
