"""Flag-DiT as MODEL: its pictures are those of the independent reference, settings included."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import FlagDiTConfig
from lumina_next.lumina.model.flag_dit import FlagDiT
from lumina_next.lumina.options.context_drop import Cells, ContextDrop
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.tests.support.flag_dit_reference import Reference
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import OTHER, differs, guess
from lumina_next.tests.support.option_nodes import dropped, resolved
from lumina_next.tests.support.random_weights import randomize
from lumina_next.tests.support.tiny import (
    POSITIVE,
    SEED,
    assert_same_picture,
    count_forwards,
    euler,
    ksampler,
)

CONFIG = FlagDiTConfig(dim=32, layers=3, heads=4, kv_heads=2, caption_dim=24, ffn_dim=88)
NAME = "flag-dit.safetensors"


@pytest.fixture(scope="module")
def weights():
    network = randomize(FlagDiT(CONFIG), std=0.15, generator=torch.manual_seed(SEED))
    return key_names.to_file_keys(network.state_dict())


@pytest.fixture
def flag_dit(load, folder, weights):
    if not (folder / NAME).exists():
        save_file({"pad_token": torch.ones(32), **weights}, folder / NAME)
    return load(NAME)


def velocity_of(reference):
    """The reference in the form that `tiny.euler` asks for."""

    def velocity(x, t, caption):
        mask = torch.ones(caption.shape[:2])
        return reference.velocity(x, t, caption, mask).float()

    return velocity


@pytest.mark.parametrize("height, width", [(16, 16), (12, 20)])
def test_picture_is_the_references(flag_dit, weights, height, width):
    expected = euler(velocity_of(Reference(weights)), flag_dit, height, width)
    assert_same_picture(ksampler(flag_dit, height, width), expected)


def test_prompts_share_a_forward_pass(flag_dit):
    model, batches = count_forwards(flag_dit)
    ksampler(model)
    assert set(batches) == {2}


@pytest.mark.parametrize("method", ["auto", "ntk"])
def test_ntk_is_by_the_ratio_of_the_areas(flag_dit, weights, method):
    """As the released code: 4 x 4 tokens trained, 12 x 20 latents asked for."""
    ratio = (6 * 10) / 4**2
    reference = Reference(weights, theta=10000.0 * ratio)
    expected = euler(velocity_of(reference), flag_dit, 12, 20)
    found = ksampler(resolved(flag_dit, method, attention="off"), 12, 20)
    assert_same_picture(found, expected)


def test_linear_is_by_the_ratio_of_the_areas(flag_dit, weights):
    reference = Reference(weights, linear=(6 * 10) / 4**2)
    expected = euler(velocity_of(reference), flag_dit, 12, 20)
    found = ksampler(resolved(flag_dit, "linear", attention="off"), 12, 20)
    assert_same_picture(found, expected)


def test_proportional_attention_counts_as_released(flag_dit, weights):
    """Trained length n * n + 2 n, of which 4224 at 64 tokens a side is the released one."""
    assert 64 * 64 + 2 * 64 == 4224
    reference = Reference(weights, base_tokens=4 * 4 + 2 * 4)
    expected = euler(velocity_of(reference), flag_dit, 12, 20)
    found = ksampler(resolved(flag_dit, "none", attention="on"), 12, 20)
    assert_same_picture(found, expected)


@pytest.mark.parametrize("method", ["time_aware", "frequency_aware", "yarn", "dype"])
def test_method_for_rows_and_columns_is_refused(flag_dit, method):
    with pytest.raises(ValueError, match=f'"{method}" scales rows and columns.*linear, ntk, water'):
        resolved(flag_dit, method, attention="auto")


def test_scale_rope_is_refused(flag_dit):
    moved = node(
        "ScaleROPE", model=flag_dit, scale_x=2.0, shift_x=0.0, scale_y=1.0, shift_y=0.0,
        scale_t=1.0, shift_t=0.0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="ScaleROPE.*a Flag-DiT has none"):
        ksampler(moved)


def test_context_drop_leaves_line_ends_as_they_are(flag_dit, weights):
    plain = FlagDiT(CONFIG)
    plain.load_state_dict(key_names.to_module_keys(weights))
    drop = ContextDrop(2, 0.8, "first")

    def velocity(x, t, caption):
        height, width = x.shape[2] // 2, x.shape[3] // 2
        cells = Cells(height, width, 2, line_ends=1)
        dropping = drop.layers(float(t[0]), CONFIG.layers)
        with torch.no_grad():
            return plain(x, t, caption, None, ForwardOptions(cells=cells, dropping=dropping))

    found = ksampler(dropped(flag_dit, 2, 0.8, "first"), 12, 20)
    assert_same_picture(found, euler(velocity, flag_dit, 12, 20))
    assert not torch.allclose(found, ksampler(flag_dit, 12, 20), atol=0.05)


def test_saved_model_has_the_released_names(flag_dit, weights):
    network = flag_dit.model.diffusion_model.state_dict()
    saved, prefix = flag_dit.model.state_dict_for_saving(network), "model.diffusion_model."
    found = {key.removeprefix(prefix): value for key, value in saved.items()}
    assert_close(found, weights, rtol=0, atol=0)


def test_lora_on_the_line_end_counts(flag_dit):
    """A bare parameter would take the patch and ignore it."""
    changed = flag_dit.clone()
    key = "diffusion_model.eol_token.weight"
    assert changed.add_patches({key: (torch.ones(32),)}, 1.0) == [key]
    assert not torch.allclose(ksampler(changed), ksampler(flag_dit), atol=1e-3)


def test_partly_loaded_model_gives_the_same_picture(flag_dit):
    x, sigma = torch.randn(1, 4, 12, 20), torch.tensor([0.4])
    caption = torch.randn(1, 5, CONFIG.caption_dim)
    whole = flag_dit.model.apply_model(x, sigma, c_crossattn=caption)
    flag_dit.load(torch.device("cpu"), lowvram_model_memory=4096)
    assert flag_dit.model.model_lowvram
    assert_close(flag_dit.model.apply_model(x, sigma, c_crossattn=caption), whole)


def test_fp8_computes_with_rounded_weights_in_full_precision(flag_dit, load, weights):
    rounded = {key: tensor.to(torch.float8_e4m3fn).float() for key, tensor in weights.items()}
    expected = euler(velocity_of(Reference(rounded)), flag_dit, 12, 20)
    assert_same_picture(ksampler(load(NAME, "fp8_e4m3fn"), 12, 20), expected)


def test_prompt_of_an_area_acts_inside_it(flag_dit):
    area = node(
        "ConditioningSetArea", conditioning=OTHER, width=64, height=72, x=32, y=40, strength=1.0
    )
    base, found = guess(flag_dit), guess(flag_dit, [*POSITIVE, *area])
    inside = torch.zeros(16, 12, dtype=torch.bool)
    inside[5:14, 4:12] = True
    assert_same_picture(found[..., ~inside], base[..., ~inside])
    assert differs(found[..., inside], base[..., inside])


@pytest.mark.parametrize("cache", ["EasyCache", "LazyCache"])
def test_cache_skips_passes_above_its_threshold_only(flag_dit, cache):
    def passes_at(threshold):
        cached = node(
            cache, model=flag_dit, reuse_threshold=threshold, start_percent=0.0, end_percent=1.0,
            verbose=False,
        )  # fmt: skip
        model, batches = count_forwards(cached)
        return ksampler(model), len(batches)

    exact, all_passes = passes_at(0.0)
    quick, fewer = passes_at(3.0)
    assert torch.equal(exact, ksampler(flag_dit))
    assert fewer < all_passes and quick.isfinite().all()


def test_compiled_model_draws_the_same_in_one_graph(flag_dit, monkeypatch):
    import comfy.ldm.modules.attention as attention
    import torch._dynamo
    from torch._dynamo.utils import counters

    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    torch._dynamo.reset()
    counters.clear()
    compiled = node("TorchCompileModel", model=flag_dit, backend="aot_eager")
    assert_same_picture(ksampler(compiled, 12, 20), ksampler(flag_dit, 12, 20))
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


def test_scale_is_the_usual_one_at_the_trained_size(flag_dit):
    plain = ksampler(flag_dit, 8, 8)
    assert torch.equal(ksampler(resolved(flag_dit, "auto", attention="auto"), 8, 8), plain)
    assert math.log(4 * 5) < math.log(4 * 4 + 2 * 4)  # fewer than the base, line ends included
