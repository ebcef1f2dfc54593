"""The host's attention and layers, as the network calls them."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lumina_next.lumina.options.resolution import Resolution
from lumina_next.lumina.options.run import RunSettings
from lumina_next.tests.support.random_weights import randomize
from lumina_next.tests.support.tiny import CONFIG, assert_same_picture, ksampler

BACKENDS = ["attention_basic", "attention_pytorch", "attention_split", "attention_sub_quad"]


def attend(q, k, v, mask=None, scale=None, **options):
    from lumina_next.host.model.ops import image_attention
    from lumina_next.host.model.transformer_options import HostForwardOptions

    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return image_attention(q, k, v, mask=mask, scale=scale, options=HostForwardOptions(**options))


def queries_and_keys(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 70, 72, generator=generator) for heads in (32, 8, 8))
    return q.to(dtype), k.to(dtype), v.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_repeated_keys_attend_exactly_as_shared_ones(host, monkeypatch, dtype):
    import comfy.ldm.modules.attention as attention

    from lumina_next.host import versions

    if not versions.ATTENTION_SHARES_HEADS:
        pytest.skip("this ComfyUI's attention shares no keys")
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    q, k, v = queries_and_keys(dtype)
    shared, repeated = attend(q, k, v, shares_heads=True), attend(q, k, v, shares_heads=False)
    assert_close(shared, repeated, rtol=0, atol=0)


@pytest.fixture
def flash(host, monkeypatch):
    """ "--use-flash-attention" with a kernel as the library's: no mask, no float32. Its dtypes."""
    import comfy.ldm.modules.attention as attention

    seen = []

    def kernel(q, k, v, dropout_p, causal, **settings_of_newer_hosts):
        assert q.dtype in (torch.float16, torch.bfloat16)
        seen.append(q.dtype)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2)

    monkeypatch.setattr(attention, "flash_attn_wrapper", kernel)
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_flash)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_padded", [False, True], ids=["whole", "padded"])
def test_flash_attention_gets_what_it_takes_and_nothing_is_warned_of(
    flash, caplog, dtype, is_padded
):
    q, k, v = queries_and_keys(dtype)
    mask = torch.zeros(2, 1, 1, 70, dtype=dtype)
    mask[1, ..., 40:] = torch.finfo(dtype).min
    mask = mask if is_padded else None
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert_close(attend(q, k, v, mask), expected)
    assert flash == ([dtype] if dtype == torch.bfloat16 and not is_padded else [])
    assert not caplog.records


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_torchs_attention(host, monkeypatch, backend):
    import comfy.ldm.modules.attention as attention
    from comfy.cli_args import args

    monkeypatch.setattr(args, "use_quad_cross_attention", True)  # chosen, not only the default
    monkeypatch.setattr(attention, "optimized_attention", getattr(attention, backend))
    q, k, v = queries_and_keys()
    mask = torch.zeros(2, 1, 1, 70)
    mask[1, ..., 40:] = torch.finfo(torch.float32).min
    for case in ({}, {"mask": mask}, {"scale": 0.2}):
        expected = F.scaled_dot_product_attention(
            q, k, v, attn_mask=case.get("mask"), scale=case.get("scale"), enable_gqa=True
        )
        assert_close(attend(q, k, v, **case), expected)


@pytest.mark.parametrize("chosen", [False, True])
def test_processor_takes_torchs_attention_unless_another_is_chosen(host, monkeypatch, chosen):
    import comfy.ldm.modules.attention as attention
    from comfy.cli_args import args

    from lumina_next.host.model.ops import image_backend

    monkeypatch.setattr(args, "use_quad_cross_attention", chosen)
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_sub_quad)
    expected = attention.attention_sub_quad if chosen else attention.attention_pytorch
    on_cpu, on_card = torch.empty(1), torch.empty(1, device="meta")
    assert image_backend(on_cpu, None) is expected
    assert image_backend(on_card, None) is attention.attention_sub_quad
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_split)
    assert image_backend(on_cpu, None) is attention.attention_split


def plain_override(attention, q, k, v, heads, mask=None, **kwargs):
    """An attention override of another pack, to which neither scale nor shared keys are known."""
    assert not {"scale", "enable_gqa"} & set(kwargs)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out if kwargs["skip_output_reshape"] else out.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("proportional", [False, True])
def test_override_of_another_pack_gets_what_it_can_take(load, proportional):
    model = load("native.safetensors").clone()
    options = model.model_options["transformer_options"]
    options["lumina_next"] = RunSettings(Resolution(4, proportional=proportional))
    expected = ksampler(model)
    options["optimized_attention_override"] = plain_override
    assert_same_picture(ksampler(model), expected)


def float16_network(operations, **scales):
    """The tiny model on the host's layers, all of it in float16, some weights scaled."""
    from lumina_next.host.model.network import HostNextDiT

    network = HostNextDiT(
        dtype=torch.float16,
        device=None,
        operations=operations,
        image_model="",
        **dataclasses.asdict(CONFIG),
    )
    randomize(network)
    for name, weight in network.named_parameters():
        for part, scale in scales.items():
            if part in name:
                weight.mul_(scale)
    return network


def velocity(network):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, 16, 16, generator=generator).half()
    caption = torch.randn(1, 7, CONFIG.caption_dim, generator=generator).half()
    return network(x, torch.tensor([0.5]), caption)


OVERFLOWS = {
    "feed-forward": {"feed_forward": 500.0},
    "attention": {"wv": 1e4, "wo": 1e4},
    "queries": {"wq": 1e5, "wk": 1e5},
    "condition": {"t_embedder": 1e3, "cap_embedder": 6e4},
    "norms": {"_norm1": 6e4, "_norm2": 3e4},
    "all": {"weight": 300.0},
}


@pytest.mark.parametrize("parts", OVERFLOWS)
def test_what_overflows_float16_stays_finite(host, monkeypatch, parts):
    import comfy.ops

    from lumina_next.host.model import network

    operations = comfy.ops.disable_weight_init
    assert velocity(float16_network(operations, **OVERFLOWS[parts])).isfinite().all()
    monkeypatch.setattr(network, "finite_in_float16", lambda operations: operations)
    assert not velocity(float16_network(operations, **OVERFLOWS[parts])).isfinite().all()


def test_what_fits_into_float16_is_left_as_it_is(host, monkeypatch):
    import comfy.ops

    from lumina_next.host.model import network

    found = velocity(float16_network(comfy.ops.disable_weight_init))
    monkeypatch.setattr(network, "finite_in_float16", lambda operations: operations)
    expected = velocity(float16_network(comfy.ops.disable_weight_init))
    assert_close(found, expected, rtol=0, atol=0)
