"""Any model of transformers as CLIP: its hidden states, on weights that the host moves.

The oracle is the model itself, of the installed version, tiny and random. test_oldest_version
runs these tests once more under the oldest version that the host allows.
"""

import copy

import pytest
import torch
from torch.testing import assert_close

from lumina_next.tests.support.any_text_models import (
    FAMILIES,
    host_model,
    host_state,
    native,
    oracle,
    rounded,
    states,
    text_model,
)
from lumina_next.tests.support.token_rows import ALL, RIGHT_PADDED, TOKENS


@pytest.mark.parametrize("mask", [ALL, RIGHT_PADDED], ids=["all", "padded"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_hidden_state_is_that_of_transformers(kind, mask):
    theirs, ours = oracle(kind), host_model(kind, oracle(kind).state_dict())
    expected, real = states(theirs, mask), mask.bool()
    assert len(expected) == ours.num_layers == 4
    for number in range(-4, 4):
        found = host_state(ours, mask, number)
        assert_close(found[real], expected[number][real], msg=lambda m, n=number: f"{n}: {m}")


def test_single_token_is_scaled_wherever_padding_is():
    model = host_model(
        FAMILIES["gemma3_text"] | {"pad_token_id": 60}, oracle("gemma3_text").state_dict()
    )
    one = TOKENS[:1, :1]
    expected = states(oracle("gemma3_text"), None, one)[0]
    assert_close(host_state(model, None, 0, one), expected)


def test_several_states_are_stacked():
    model, expected = (
        host_model("qwen2", oracle("qwen2").state_dict()),
        states(oracle("qwen2"), ALL),
    )
    assert_close(host_state(model, number=[0, -2]), torch.stack([expected[0], expected[-2]], 1))
    assert_close(host_state(model, number="all"), torch.stack(expected, 1))


@pytest.mark.parametrize("kind", FAMILIES)
def test_bfloat16_error_is_no_larger_than_transformers(kind):
    # Many tokens: on few, which of two equally good roundings wins is chance.
    tokens = torch.randint(3, 61, (8, 32), generator=torch.Generator().manual_seed(1))
    mask, exact = torch.ones_like(tokens), oracle(kind)
    theirs = copy.deepcopy(exact)
    for parameter in theirs.parameters():
        parameter.data = parameter.data.bfloat16()
    ours = host_model(kind, theirs.state_dict(), torch.bfloat16)
    expected = states(exact, mask, tokens)[-2]
    error = (host_state(ours, mask, tokens=tokens) - expected).abs().mean()
    theirs_error = (states(theirs, mask, tokens)[-2].float() - expected).abs().mean()
    assert 0 < error <= theirs_error


@pytest.mark.parametrize("kind", FAMILIES)
def test_fp8_weights_compute_in_full_precision(kind):
    dtype, exact, weights = torch.float8_e4m3fn, copy.deepcopy(oracle(kind)), {}
    for key, tensor in exact.state_dict().items():
        # As in most such files the vectors, of norms, are not rounded.
        weights[key] = tensor.to(dtype) if tensor.ndim > 1 else tensor.clone()
        tensor.copy_(weights[key].float())
    found = host_state(host_model(kind, weights, dtype), RIGHT_PADDED)
    real, expected = RIGHT_PADDED.bool(), states(exact, RIGHT_PADDED)[-2]
    assert_close(found[real], expected[real])


def test_fp8_norms_are_cast():
    dtype = torch.float8_e4m3fn
    weights = {key: tensor.to(dtype) for key, tensor in oracle("gemma2").state_dict().items()}
    found = host_state(host_model("gemma2", weights, dtype))
    assert_close(found, states(rounded(oracle("gemma2"), dtype), ALL)[-2])


def test_half_weights_do_not_overflow():
    # T5 would round its activations to the dtype of its weights, beyond float16's largest number.
    model = rounded(oracle("mt5"), torch.float16)
    for name, weight in model.encoder.named_parameters():
        if ".wi_" in name:
            weight.data *= 1024
    weights = {key: tensor.half() for key, tensor in model.state_dict().items()}
    expected = states(model, ALL)[-1]
    assert_close(host_state(host_model("mt5", weights, torch.float16), number=-1), expected)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_weight_is_where_the_host_finds_it(kind):
    model = host_model(kind, oracle(kind).state_dict())
    for name, module in model.named_modules():
        if list(module.parameters(recurse=False)):
            assert hasattr(module, "comfy_cast_weights"), name
            assert not list(module.children()), name
    found = {f"model.{name}" for name in native(kind, oracle(kind).state_dict())}
    assert model.state_dict().keys() == found


def test_large_model_is_built_without_memory():
    from lumina_next.host.text_encoders.transformers import build, config

    large = {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28}
    large |= {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152_064}
    parsed = config.read_config({"model_type": "qwen2", **large})
    text = build.build(parsed)
    assert (text.vocab_size, text.width) == (152_064, 3584)
    sizes = {weight.is_meta: 0 for weight in text.network.parameters()}
    for weight in text.network.parameters():
        sizes[weight.is_meta] += weight.numel()
    assert sizes[True] > 7e9 and sizes[False] < 1e6
    assert not any(table.is_meta for table in text.network.buffers())


@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text", "mt5"])
def test_weights_loaded_lazily_are_the_same(kind, monkeypatch):
    """What the host does on a card whose memory it manages by itself."""
    import comfy.memory_management
    import comfy.ops

    from lumina_next.host.text_encoders.transformers.network import TEXT_MODEL, HostTransformers

    exact = rounded(oracle(kind), torch.bfloat16)
    weights = native(kind, copy.deepcopy(exact).bfloat16().state_dict())
    with monkeypatch.context() as patch:
        patch.setattr(comfy.memory_management, "aimdo_enabled", True)
        sizes = {TEXT_MODEL: text_model(kind)}
        model = HostTransformers(sizes, torch.bfloat16, "cpu", comfy.ops.manual_cast)
        model.model.load_state_dict(weights, assign=True)
    stored = model.state_dict()
    assert all(stored[f"model.{key}"].data_ptr() == weights[key].data_ptr() for key in weights)
    # The dtypes that the host casts to on the card.
    for layer in model.modules():
        assert getattr(layer, "bias_comfy_model_dtype", torch.float32) == torch.float32
    assert_close(host_state(model), states(exact, ALL)[-2])


def test_copy_has_weights_of_its_own():
    model = host_model("gemma3_text", oracle("gemma3_text").state_dict())
    twin, before = copy.deepcopy(model), host_state(model)
    assert_close(host_state(twin), before, rtol=0, atol=0)
    for parameter in twin.parameters():
        parameter.zero_()
    assert host_state(twin).abs().max() == 0
    assert_close(host_state(model), before, rtol=0, atol=0)


def test_tables_follow_the_activations():
    model = host_model("llama", oracle("llama").state_dict())
    (network,) = model._network
    embeds = torch.zeros(1, 3, 32, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        model(None, None, embeds=embeds)  # the weights stayed where they are
    assert all(table.is_meta for table in network.buffers())
