"""Regions on their way into the model: padded, batched, and cut with the latent."""

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import FlagDiTConfig
from lumina_next.lumina.model.flag_dit import FlagDiT
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.options.regions import CaptionShares
from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import differs
from lumina_next.tests.support.option_nodes import dropped, resolved
from lumina_next.tests.support.random_weights import randomize
from lumina_next.tests.support.region_nodes import FIRST, HALVES, SECOND, left_mask, regions
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE, assert_same_picture, ksampler


@pytest.fixture
def model(load, folder):
    return load("native.safetensors")


# --- conds


def captions(*lengths, seed=0):
    from lumina_next.host.model.conditioning import PaddedCaptions

    generator = torch.manual_seed(seed)
    features = torch.randn(1, sum(lengths), 3, generator=generator)
    return PaddedCaptions(features, lengths), features.split(lengths, dim=1)


def test_captions_are_padded_each_by_itself(host):
    one, (first, second) = captions(2, 5)
    other, (third, fourth, fifth) = captions(4, 1, 2, seed=1)
    assert one.can_concat(other)
    found = one.concat([other]).split((4, 5, 2), dim=1)
    for row, parts in enumerate([(first, second, first[:, :0]), (third, fourth, fifth)]):
        for part, expected in zip(found, parts, strict=True):
            length = expected.shape[1]
            assert_close(part[row, :length], expected[0])
            assert not part[row, length:].any()


def test_lengths_are_those_of_the_padded_captions(host):
    from lumina_next.host.model.conditioning import CaptionLengths

    conds = [CaptionLengths(lengths) for lengths in [(2, 5), (4, 1, 2), (3,)]]
    assert conds[0].can_concat(conds[1])
    assert conds[0].concat(conds[1:]) == (4, 5, 2)
    assert conds[0].process_cond(batch_size=3).concat([]) == (2, 5)


def test_weights_of_several_prompts_are_batched_and_cut_by_areas(host):
    from lumina_next.host.model.conditioning import RegionWeights

    weights = torch.rand(1, 2, 8, 6)
    one, none = RegionWeights(weights), RegionWeights(torch.zeros(1, 0, 8, 6))
    assert one.can_concat(none)
    assert_close(none.concat([one]), torch.cat([torch.zeros(1, 2, 8, 6), weights]))
    cut = one.process_cond(batch_size=2, area=(4, 3, 1, 2))
    assert_close(cut.cond, weights[..., 1:5, 2:5].repeat(2, 1, 1, 1))


# --- with our own options


@pytest.mark.parametrize("option", [resolved, dropped])
def test_regions_go_with_our_options(model, option):
    changed = option(model)
    found = ksampler(changed, positive=regions(*HALVES))
    assert differs(found, ksampler(changed))
    assert differs(found, ksampler(model, positive=regions(*HALVES)))
    # The same regions with one prompt everywhere are that prompt.
    same = regions((POSITIVE, HALVES[0][1]), (POSITIVE, HALVES[1][1]))
    assert_same_picture(ksampler(changed, positive=same), ksampler(changed))


def test_lora_acts_in_regions(host, model):
    generator = torch.Generator().manual_seed(5)
    keys = [key for key in tiny.weights() if "layers.1.attention.wk_y" in key]
    change = {
        f"diffusion_model.{key.removesuffix('.weight')}.diff": torch.randn(
            tiny.weights()[key].shape, generator=generator
        )
        for key in keys
    }
    (host.models / "loras").mkdir(exist_ok=True)
    save_file(change, host.models / "loras" / "regions.safetensors")
    with_lora = node(
        "LoraLoaderModelOnly", model=model, lora_name="regions.safetensors", strength_model=1.0
    )
    prompt = regions(*HALVES)
    found = ksampler(with_lora, positive=prompt)
    assert differs(found, ksampler(model, positive=prompt))


def test_compiled_model_draws_the_same(model):
    compiled = node("TorchCompileModel", model=model, backend="eager")
    prompt = regions(*HALVES)
    assert_same_picture(ksampler(compiled, positive=prompt), ksampler(model, positive=prompt))
    other = regions((SECOND, HALVES[0][1]), (FIRST, HALVES[1][1]))
    assert_same_picture(ksampler(compiled, positive=other), ksampler(model, positive=other))


# --- wrappers that cut the latent


def in_halves(with_maps):
    """A wrapper that calls the model for the left and the right half of the latent.

    with_maps: it cuts what else has the latent's shape too, as TiledDiffusion does.
    """

    def cut(value, index, x):
        is_map = torch.is_tensor(value) and value.ndim == 4 and value.shape[-2:] == x.shape[-2:]
        return value.chunk(2, dim=-1)[index] if with_maps and is_map else value

    def wrapper(apply_model, arguments):
        x, sigma, c = arguments["input"], arguments["timestep"], arguments["c"]
        parts = [
            apply_model(half, sigma, **{name: cut(value, i, x) for name, value in c.items()})
            for i, half in enumerate(x.chunk(2, dim=-1))
        ]
        return torch.cat(parts, dim=-1)

    return wrapper


def tiled(model, with_maps=True):
    model = model.clone()
    model.set_model_unet_function_wrapper(in_halves(with_maps))
    return model


def test_tiles_see_their_part_of_the_regions(model):
    """Halves as tiles: each has one region over all of it."""
    found = ksampler(tiled(model), positive=regions(*HALVES), height=16, width=16)
    for index, (prompt, _) in enumerate(HALVES):
        alone = ksampler(tiled(model), positive=regions((prompt, {})), height=16, width=16)
        half, expected = (picture.chunk(2, dim=-1)[index] for picture in (found, alone))
        assert_same_picture(half, expected)


def test_wrapper_that_does_not_cut_the_regions_is_refused(model):
    with pytest.raises(ValueError, match="cuts the picture into parts"):
        ksampler(tiled(model, with_maps=False), positive=regions(*HALVES))


def test_tiles_of_the_trained_size_need_no_scaling(model):
    """Trained at 64 px, 8 x 8 latents: those tiles of 8 x 16 draw what they do without the node."""
    plain = ksampler(tiled(model), height=8, width=16)
    found = ksampler(tiled(resolved(model, "linear")), height=8, width=16)
    assert_same_picture(found, plain)
    whole = ksampler(resolved(model, "linear"), height=8, width=16)
    assert differs(whole, ksampler(model, height=8, width=16))


def test_tiles_that_say_where_they_stand_are_part_of_the_picture(model):
    """By shifts as the host's ScaleROPE: then the whole picture's size counts."""

    def placed(apply_model, arguments):
        x, sigma, c = arguments["input"], arguments["timestep"], dict(arguments["c"])
        options, parts = c.pop("transformer_options"), []
        for index, half in enumerate(x.chunk(2, dim=-1)):
            rope = {"shift_x": 4.0 * index, "shift_y": 0.0} if index else {}
            placed = {**options, "rope_options": rope}
            parts.append(apply_model(half, sigma, **c, transformer_options=placed))
        return torch.cat(parts, dim=-1)

    def right_half(model):
        model = model.clone()
        model.set_model_unet_function_wrapper(placed)
        return ksampler(model, height=8, width=16)[..., 8:]

    assert differs(right_half(resolved(model, "linear")), right_half(model))


def test_areas_still_belong_to_the_whole_picture(model):
    settled = resolved(model, "linear")
    area = node(
        "ConditioningSetArea", conditioning=NEGATIVE, width=64, height=64, x=0, y=0, strength=1.0
    )
    found = ksampler(settled, positive=[*POSITIVE, *area], height=8, width=16)
    unscaled = ksampler(model, positive=[*POSITIVE, *area], height=8, width=16)
    assert differs(found, unscaled)


# --- Flag-DiT


def test_flag_dit_draws_regions_as_plain_torch(load, folder):
    config = FlagDiTConfig(dim=32, layers=3, heads=4, kv_heads=2, caption_dim=24, ffn_dim=88)
    network = randomize(FlagDiT(config), std=0.15)
    weights = key_names.to_file_keys(network.state_dict())
    save_file({"pad_token": torch.ones(32), **weights}, folder / "flag-regions.safetensors")
    model = load("flag-regions.safetensors")
    left = left_mask(16, 12)
    maps = torch.stack([left, 1 - left], dim=1)
    texts = [prompt[0][0] for prompt in (POSITIVE, FIRST, SECOND)]
    shares = CaptionShares.of(maps, [text.shape[1] for text in texts], line_ends=1)

    def velocity(x, t, caption):
        if caption is NEGATIVE[0][0]:
            return network(x, t, caption)
        return network(x, t, torch.cat(texts, dim=1), None, ForwardOptions(regions=shares))

    found = ksampler(model, positive=regions(*HALVES))
    assert_same_picture(found, tiny.euler(velocity, model))
