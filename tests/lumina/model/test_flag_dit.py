"""FlagDiT against an independent evaluation in float64, and its line ends."""

import pytest
import torch

from lumina_next.lumina.checkpoints.key_names import to_file_keys
from lumina_next.lumina.config import FLAG_DIT_5B, FlagDiTConfig
from lumina_next.lumina.model.flag_dit import FlagDiT
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.options.resolution import proportional_scale
from lumina_next.lumina.rope import rotation
from lumina_next.tests.support.flag_dit_reference import Reference
from lumina_next.tests.support.random_weights import randomize

SIZES = {"dim": 48, "layers": 2, "heads": 4, "caption_dim": 20, "ffn_dim": 64}


def model_and_reference(kv_heads=2, qk_norm=True, **reference):
    config = FlagDiTConfig(kv_heads=kv_heads, qk_norm=qk_norm, **SIZES)
    model = randomize(FlagDiT(config), std=0.15)
    return model, Reference(to_file_keys(model.state_dict()), **reference)


def inputs(batch=2, height=6, width=6, tokens=7, padding=0):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 4, height, width, generator=generator)
    t = torch.rand(batch, generator=generator)
    caption = torch.randn(batch, tokens, 20, generator=generator)
    mask = torch.ones(batch, tokens, dtype=torch.long)
    if padding:
        mask[-1, -padding:] = 0
    return x, t, caption, mask


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
def test_velocity_is_the_reference(kv_heads, qk_norm, case):
    model, reference = model_and_reference(kv_heads, qk_norm)
    given = inputs(**CASES[case])
    torch.testing.assert_close(model(*given), reference.velocity(*given).float())


@pytest.mark.parametrize("linear, ntk", [(2.0, 1.0), (1.0, 2.640625), (1.5, 3.0)])
def test_scaled_rope_is_the_reference(linear, ntk):
    model, reference = model_and_reference(linear=linear, theta=10000.0 * ntk)
    given = inputs(height=4, width=8)
    frequency = rotation.frequencies(12, axes=1, linear=linear, ntk=ntk)
    table = rotation.rotation_table(rotation.positions(2 * (4 + 1)), [frequency])
    found = model(*given, ForwardOptions(rotation=table))
    torch.testing.assert_close(found, reference.velocity(*given).float())


@pytest.mark.parametrize("base_tokens", [4, 12, 4224])
def test_proportional_attention_is_the_reference(base_tokens):
    model, reference = model_and_reference(base_tokens=base_tokens)
    given = inputs()
    scale = proportional_scale(3 * (3 + 1), base_tokens, head_dim=12)
    found = model(*given, ForwardOptions(self_attention_scale=scale))
    torch.testing.assert_close(found, reference.velocity(*given).float())


def test_a_line_end_follows_each_row():
    model, _ = model_and_reference()
    tokens = torch.randn(2, 6, 48)
    sequence = model.sequence(tokens, width=3)
    line_end = model.eol_token.weight.expand(2, -1)
    torch.testing.assert_close(sequence[:, 3], line_end)
    torch.testing.assert_close(sequence[:, 7], line_end)
    torch.testing.assert_close(model.picture(sequence, width=3), tokens)


def test_frequencies_of_the_5b():
    frequency = rotation.frequencies(FLAG_DIT_5B.head_dim, axes=1)
    expected = torch.tensor([1.0, 0.82540419, 0.68129207, 0.01, 0.00012115])
    torch.testing.assert_close(frequency[[0, 1, 2, 24, 47]], expected, rtol=1e-4, atol=1e-8)


def test_the_5b_has_as_many_weights_as_released():
    model = FlagDiT(FLAG_DIT_5B, device="meta")
    padding_token = FLAG_DIT_5B.dim  # in the file, not in the network
    count = sum(weight.numel() for weight in model.parameters())
    assert count + padding_token == 5_046_643_744
    assert len(model.state_dict()) + 1 == 688
