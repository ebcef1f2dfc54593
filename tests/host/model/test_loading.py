"""MODELs of every form of file draw the picture of plain torch."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.tests.support import tiny
from lumina_next.tests.support.tiny import assert_same_picture, euler, ksampler, plain_model


@pytest.mark.parametrize(
    "name",
    ["native.safetensors", "diffusers.safetensors", "sharded", "consolidated.00-of-01.pth"],
)
def test_every_format_samples_the_picture_of_plain_torch(load, weights, name):
    model = load(name)
    expected = euler(plain_model(), model)
    assert_same_picture(ksampler(model), expected)


def test_odd_latents_are_padded_and_cropped(load, weights):
    model, plain = load("native.safetensors"), plain_model()

    def velocity(x, t, caption):
        return plain(F.pad(x, (0, 1, 0, 1), mode="circular"), t, caption)[:, :, :-1, :-1]

    assert_same_picture(ksampler(model, 15, 11), euler(velocity, model, 15, 11))


def test_other_latent_format_only_scales_the_result(load):
    expected = ksampler(load("native.safetensors")) * 0.13025 / 0.18215
    assert_same_picture(ksampler(load("native.safetensors", latent_format="SD1.5")), expected)


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"])
def test_fp8_computes_with_rounded_weights_in_full_precision(load, weights, dtype):
    kind = {"fp8_e5m2": torch.float8_e5m2}.get(dtype, torch.float8_e4m3fn)
    rounded = {key: tensor.to(kind).float() for key, tensor in weights.items()}
    model = load("native.safetensors", dtype)
    assert_same_picture(ksampler(model), euler(plain_model(rounded), model))


def test_bf16_is_also_computed_in(load, weights):
    model = load("native.safetensors", "bf16")
    assert model.model.get_dtype_inference() == torch.bfloat16
    exact = ksampler(load("native.safetensors"))
    difference = (ksampler(model) - exact).abs().mean()
    assert 0 < difference < 0.15 * exact.std()


@pytest.mark.parametrize("flag", ["fp32_unet", "force_fp32"])
def test_command_line_wins_over_bf16(load, monkeypatch, flag):
    from comfy.cli_args import args

    monkeypatch.setattr(args, flag, True)
    assert load("native.safetensors", "bf16").model.get_dtype_inference() == torch.float32


def test_scaled_fp8_file_is_loaded_at_its_scale(load, folder, weights):
    scaled, restored = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}, dict(weights)
    for key, tensor in weights.items():
        is_linear = key.startswith("layers.") and tensor.ndim == 2
        scaled[key] = tensor
        if is_linear:
            scale = tensor.abs().max() / 448
            scaled[key] = (tensor / scale).to(torch.float8_e4m3fn)
            scaled[key.replace(".weight", ".scale_weight")] = scale
            restored[key] = scaled[key].float() * scale
    save_file(scaled, folder / "scaled.safetensors")
    model = load("scaled.safetensors")
    assert_same_picture(ksampler(model), euler(plain_model(restored), model))


def test_shift_means_the_same_at_either_multiplier(load):
    from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow, ModelSamplingSD3

    model = load("native.safetensors")
    (one,) = ModelSamplingAuraFlow().patch_aura(model, 4.0)
    (thousand,) = ModelSamplingSD3().patch(model, 4.0)
    assert_close(ksampler(one), ksampler(thousand), rtol=0, atol=0)
    assert not torch.allclose(ksampler(one), ksampler(model), atol=0.1)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda w: w.pop("layers.2.feed_forward.w1.weight"),
            'is missing .*"layers.2.feed_forward.w1.weight"',
        ),
        (
            lambda w: w.update({"layers.2.extra.weight": torch.ones(1)}),
            '"layers.2.extra.weight"',
        ),
        (lambda w: w.update({"layers.0.attention.gate": torch.ones(5)}), "layers.0.attention.gate"),
    ],
)
def test_network_refuses_weights_that_do_not_fill_it(load, weights, change, message):
    given = dict(weights)
    change(given)
    with pytest.raises(ValueError, match=message):
        load("native.safetensors").model.load_model_weights(given)


def test_incomplete_file_is_refused_by_name(load, folder, weights):
    torch.save(tiny.without_one(weights), folder / "partial.pth")
    with pytest.raises(ValueError, match="partial.pth is incomplete.*layers.1.attention.wq.weight"):
        load("partial.pth")


def test_model_for_latents_of_16_channels_is_refused_in_words(load, folder):
    network = NextDiT(dataclasses.replace(tiny.CONFIG, in_channels=16))
    weights = key_names.to_file_keys(network.state_dict())
    save_file(weights, folder / "sixteen.safetensors")
    with pytest.raises(ValueError, match="sixteen.safetensors was trained on .* 16 channels"):
        load("sixteen.safetensors")


def test_damaged_settings_are_named(load, folder, weights):
    """Those beside the weights, in the metadata of the file or in the folder's config.json."""
    path = folder / "mangled.safetensors"
    save_file(weights, path, {"_quantization_metadata": "{"})
    with pytest.raises(
        ValueError, match='^"_quantization_metadata" in mangled.safetensors is damaged'
    ):
        load("mangled.safetensors")
    (folder / "mangled").mkdir()
    save_file(weights, folder / "mangled" / "model.safetensors")
    (folder / "mangled" / "config.json").write_text('{"sample_size": "large"}')
    with pytest.raises(
        ValueError, match="\"sample_size\" in the config.json of mangled is 'large'"
    ):
        load("mangled")
