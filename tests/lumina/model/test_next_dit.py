"""NextDiT against diffusers' LuminaNextDiT2DModel, through the real key map, and its properties."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lumina_next.lumina.checkpoints.loading import load_next_dit
from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model.layers import time_features
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.lumina.options import resolution
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.rope import rotation
from lumina_next.tests.support.random_weights import randomize

CONFIG = NextDiTConfig(dim=48, layers=2, heads=4, kv_heads=2, caption_dim=20, ffn_dim=64)


def diffusers_model(kv_heads=2, qk_norm=True):
    from diffusers import LuminaNextDiT2DModel

    model = LuminaNextDiT2DModel(
        sample_size=16,
        hidden_size=48,
        num_layers=2,
        num_attention_heads=4,
        num_kv_heads=kv_heads,
        multiple_of=16,
        qk_norm=qk_norm,
        cross_attention_dim=20,
    )
    randomize(model, std=0.15)
    for layer in model.layers:  # a converted checkpoint holds the same queries twice
        layer.attn2.to_q.load_state_dict(layer.attn1.to_q.state_dict())
        if qk_norm:
            layer.attn2.norm_q.load_state_dict(layer.attn1.norm_q.state_dict())
    return model


def inputs(batch=2, height=6, width=6, tokens=7, padding=0):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 4, height, width, generator=generator)
    t = torch.rand(batch, generator=generator)
    caption = torch.randn(batch, tokens, 20, generator=generator)
    mask = torch.ones(batch, tokens, dtype=torch.long)
    if padding:
        mask[-1, -padding:] = 0
    return x, t, caption, mask


def diffusers_velocity(model, x, t, caption, mask, linear=1.0, ntk=1.0, trained_tokens=None):
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    angles = get_2d_rotary_pos_embed_lumina(12, 384, 384, linear_factor=linear, ntk_factor=ntk)
    extra = {} if trained_tokens is None else {"base_sequence_length": trained_tokens}
    out = model(x, t, caption, mask, angles, cross_attention_kwargs=extra, return_dict=False)[0]
    return out.chunk(2, dim=1)[0]


CASES = {
    "plain": {},
    "one picture": {"batch": 1},
    "wide": {"height": 4, "width": 10},
    "tall, three pictures": {"batch": 3, "height": 10, "width": 2},
    "padded caption": {"batch": 3, "padding": 4},
}


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_velocity_is_diffusers(kv_heads, qk_norm, case):
    theirs = diffusers_model(kv_heads, qk_norm)
    ours = load_next_dit(theirs.state_dict())
    x, t, caption, mask = inputs(**CASES[case])
    expected = diffusers_velocity(theirs, x, t, caption, mask)
    torch.testing.assert_close(ours(x, t, caption, mask), expected)


@pytest.mark.parametrize("scaling", [{"linear": 2.0}, {"ntk": 2.0}, {"linear": 1.5, "ntk": 3.0}])
def test_scaled_rope_is_diffusers(scaling):
    theirs = diffusers_model()
    x, t, caption, mask = inputs(height=4, width=8)
    frequency = rotation.frequencies(12, **scaling)
    options = ForwardOptions(rotation.rotation_table(rotation.positions(2, 4), [frequency] * 2))
    expected = diffusers_velocity(theirs, x, t, caption, mask, **scaling)
    ours = load_next_dit(theirs.state_dict())
    torch.testing.assert_close(ours(x, t, caption, mask, options), expected)


@pytest.mark.parametrize("trained_tokens", [4, 9, 64])
def test_proportional_attention_is_diffusers(trained_tokens):
    theirs = diffusers_model()
    x, t, caption, mask = inputs()
    scale = resolution.proportional_scale(tokens=9, trained_tokens=trained_tokens, head_dim=12)
    expected = diffusers_velocity(theirs, x, t, caption, mask, trained_tokens=trained_tokens)
    ours = load_next_dit(theirs.state_dict())
    found = ours(x, t, caption, mask, ForwardOptions(self_attention_scale=scale))
    torch.testing.assert_close(found, expected)


def test_time_features_are_diffusers():
    from diffusers.models.embeddings import Timesteps

    t = torch.rand(5)
    theirs = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0.0)
    torch.testing.assert_close(time_features(t), theirs(t))


def test_feed_forward_is_diffusers():
    theirs = diffusers_model()
    ours = load_next_dit(theirs.state_dict())
    x = torch.randn(2, 5, 48)
    torch.testing.assert_close(ours.layers[0].feed_forward(x), theirs.layers[0].feed_forward(x))


def test_padding_a_caption_changes_nothing():
    model = randomize(NextDiT(CONFIG), std=0.15)
    x, t, caption, _ = inputs()
    padded = torch.cat([caption, torch.full((2, 5, 20), 50.0)], dim=1)
    mask = torch.tensor([[1] * 7 + [0] * 5] * 2)
    torch.testing.assert_close(model(x, t, padded, mask), model(x, t, caption))


def test_pictures_of_a_batch_do_not_see_each_other():
    model = randomize(NextDiT(CONFIG), std=0.15)
    x, t, caption, mask = inputs(batch=3, padding=2)
    alone = [model(*(v[i : i + 1] for v in (x, t, caption, mask))) for i in range(3)]
    torch.testing.assert_close(model(x, t, caption, mask), torch.cat(alone))


def test_forward_leaves_no_trace():
    model = randomize(NextDiT(CONFIG), std=0.15)
    arguments = inputs()
    frequency = rotation.frequencies(12, linear=2.0)
    table = rotation.rotation_table(rotation.positions(3, 3), [frequency] * 2)
    scaled = ForwardOptions(table, 0.1)
    before = model(*arguments)
    assert not torch.equal(model(*arguments, scaled), before)
    assert torch.equal(model(*arguments), before)


def test_keys_and_values_are_not_repeated():
    seen = []

    def attention(q, k, v, **rest):
        seen.append((q.shape[1], k.shape[1], v.shape[1]))
        return q

    NextDiT(CONFIG, attention=attention)(*inputs())
    assert set(seen) == {(4, 2, 2)}


def test_no_mask_reaches_attention_where_nothing_is_padded():
    masks = []

    def attention(q, k, v, *, mask, **rest):
        masks.append(mask)
        return q

    x, t, caption, _ = inputs()
    NextDiT(CONFIG, attention=attention)(x, t, caption)
    assert masks == [None] * 4


def test_layers_come_from_the_given_namespace():
    built = []

    class Counted(nn.Linear):
        def __init__(self, *args, **kwargs):
            built.append(args)
            super().__init__(*args, **kwargs)

    class Ops:
        Linear, LayerNorm, RMSNorm = Counted, nn.LayerNorm, nn.RMSNorm

    model = NextDiT(CONFIG, ops=Ops)
    assert len(built) == sum(isinstance(m, nn.Linear) for m in model.modules()) == 7 + 2 * 10 - 1


def test_bfloat16_stays_close_to_float32():
    model = randomize(NextDiT(CONFIG), std=0.15)
    x, t, caption, mask = inputs()
    expected = model(x, t, caption, mask)
    found = model.bfloat16()(x.bfloat16(), t, caption.bfloat16(), mask).float()
    assert (found - expected).std() < 0.03 * expected.std()


def test_widths_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="cannot be divided into 5 heads"):
        replace(CONFIG, heads=5)
    with pytest.raises(ValueError, match="4 query heads cannot share 3"):
        replace(CONFIG, kv_heads=3)
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        replace(CONFIG, heads=8, kv_heads=2)
