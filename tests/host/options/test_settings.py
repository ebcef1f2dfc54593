"""Resolution and context drop in ComfyUI: each picture against plain torch by the same rules."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.options import resolution
from lumina_next.lumina.options.context_drop import Cells, ContextDrop
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.rope import positions, rotation_table
from lumina_next.lumina.rope.scaling import Axis, Scaling
from lumina_next.tests.support import tiny
from lumina_next.tests.support.tiny import (
    CONFIG,
    POSITIVE,
    assert_same_picture,
    euler,
    ksampler,
    plain_model,
)

HEAD_DIM = CONFIG.head_dim
TRAINED_PX = 64  # 4 x 4 tokens; tiny.ksampler's picture of 8 x 6 tokens is beyond that
TRAINED = TRAINED_PX // 16


@pytest.fixture
def model(folder):
    from lumina_next.host.model import loading

    return loading.load_model("native.safetensors")


def resolved(model, method="auto", *, trained=TRAINED_PX, isotropic=False, attention="off", **own):
    from lumina_next.nodes.options.resolution import ResolutionNode

    method = {"method": method, **own}
    return ResolutionNode.execute(model, trained, isotropic, attention, method)[0]


def dropped(model, factor=2, until=1.0, order="first"):
    from lumina_next.nodes.options.context_drop import ContextDropNode

    return ContextDropNode.execute(model, factor, until, order)[0]


def by_hand(model, options):
    """Euler in plain torch; `options(t, height, width)` in tokens gives each call's options."""
    plain = plain_model()

    def velocity(x, t, caption):
        height, width = (side // 2 for side in x.shape[-2:])
        return plain(x, t, caption, options=options(float(t), height, width))

    return euler(velocity, model)


def rotation(scaling, t, height, width, ratios=None):
    ratios = ratios or (height / TRAINED, width / TRAINED)
    rows, columns = (scaling.frequencies(Axis(r, TRAINED, HEAD_DIM, t)) for r in ratios)
    return rotation_table(positions(height, width), (rows, columns))


# --- resolution

METHODS = {
    "linear": {},
    "ntk": {},
    "frequency_aware": {},
    "time_aware": {},
    "watershed": {"watershed": 0.5},
    "yarn": {},
    "dype": {"scale": 1.5, "exponent": 1.0, "base": "yarn"},
}


@pytest.mark.parametrize("method", METHODS)
def test_method_reaches_every_step(model, method):
    own = METHODS[method]
    fields = {f"dype_{k}": v for k, v in own.items()} if method == "dype" else own
    scaling = Scaling(method, **fields)
    found = ksampler(resolved(model, method, **own))
    expected = by_hand(model, lambda t, h, w: ForwardOptions(rotation(scaling, t, h, w)))
    assert_same_picture(found, expected)
    assert not torch.allclose(found, ksampler(model), atol=0.05)


@pytest.mark.parametrize(
    "trained, method",
    [(64, ("watershed", 0.95)), (496, ("watershed", 0.95)), (512, ("time_aware",))],
)
def test_auto_depends_on_the_trained_size(model, trained, method):
    def chosen(model):
        return model.model_options["transformer_options"]["lumina_next"].resolution

    own = dict(zip(("method", "watershed"), method, strict=False))
    assert chosen(resolved(model, trained=trained)) == chosen(
        resolved(model, trained=trained, **own)
    )


@pytest.mark.parametrize("trained", [128, 256])
@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_nothing_changes_at_the_trained_size_and_below(model, method, trained):
    own = METHODS.get(method, {})
    same = resolved(model, method, trained=trained, attention="auto", **own)
    assert torch.equal(ksampler(same), ksampler(model))


def test_none_leaves_the_positions(model):
    assert torch.equal(ksampler(resolved(model, "none")), ksampler(model))


def test_isotropic_uses_the_area(model):
    ratio = math.sqrt(8 * 6) / TRAINED
    found = ksampler(resolved(model, "linear", isotropic=True))
    scaling = Scaling("linear")
    expected = by_hand(
        model, lambda t, h, w: ForwardOptions(rotation(scaling, t, h, w, (ratio, ratio)))
    )
    assert_same_picture(found, expected)


@pytest.mark.parametrize("t", [0.1, 0.29, 0.31, 0.9])
def test_watershed_is_diffusers(t):
    """As LuminaPipeline switches at scaling_watershed: linear factor before it, ntk from it on."""
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    from lumina_next.lumina.options.resolution import Resolution
    from lumina_next.lumina.options.step import Step

    side, trained = 12, 6
    factors = {"linear_factor": 2.0, "ntk_factor": 1.0} if t < 0.3 else {"ntk_factor": 2.0}
    angles = get_2d_rotary_pos_embed_lumina(72, side, side, **factors).flatten(0, 1)
    at = torch.arange(side, dtype=torch.float32)
    step = Step(torch.tensor([1 - t]), at, at, (side, side), 24, 72, torch.device("cpu"))
    found = Resolution(trained, Scaling("watershed"), isotropic=True).rotation(step)
    assert_close(found[0, :, 0, :, 0, 0], angles.real)
    assert_close(found[0, :, 0, :, 1, 0], angles.imag)


def test_two_branches_do_not_see_each_other(model):
    before = ksampler(model)
    linear, ntk = resolved(model, "linear"), resolved(model, "ntk")
    first = ksampler(linear)
    assert not torch.allclose(ksampler(ntk), first, atol=0.05)
    assert torch.equal(ksampler(linear), first)
    assert torch.equal(ksampler(model), before)


def test_area_keeps_the_factor_of_the_whole_picture(model):
    from lumina_next.host.options import settings

    steps = []
    watched = resolved(model, "linear")
    given = watched.model_options["transformer_options"][settings.KEY]

    class Watching:
        def forward_options(self, step):
            steps.append((len(step.rows), len(step.columns), given.resolution.ratios(step.frame)))
            return given.forward_options(step)

    watched.model_options["transformer_options"][settings.KEY] = Watching()
    area = [[POSITIVE[0][0], {**POSITIVE[0][1], "area": (8, 6, 0, 0), "strength": 1.0}]]
    ksampler(watched, positive=area)
    assert {(4, 3, (2.0, 1.5)), (8, 6, (2.0, 1.5))} >= set(steps) and (4, 3, (2.0, 1.5)) in steps


def test_compiled_model_follows_a_changed_setting(model):
    def compiled(model):
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        model = model.clone()
        set_torch_compile_wrapper(model=model, backend="eager")
        return model

    for method in ("linear", "ntk"):
        chosen = resolved(model, method)
        assert_same_picture(ksampler(compiled(chosen)), ksampler(chosen))


def test_missing_method_is_answered_with_the_list(model):
    from lumina_next.nodes.options.resolution import ResolutionNode

    with pytest.raises(ValueError, match='"method" is missing or not in the list.*auto, none'):
        ResolutionNode.execute(model, 0, False, "auto", None)


@pytest.mark.parametrize("trained", [8, 16])
def test_trained_size_too_small_to_compare_with_is_refused(model, trained):
    with pytest.raises(ValueError, match=r"at least 2 tokens \(32 px\)"):
        resolved(model, trained=trained)


# --- proportional attention


@pytest.mark.parametrize("attention, scaled", [("on", True), ("auto", True), ("off", False)])
def test_proportional_attention_above_the_trained_size(model, attention, scaled):
    scale = resolution.proportional_scale(8 * 6, TRAINED**2, HEAD_DIM) if scaled else None
    found = ksampler(resolved(model, "none", attention=attention))
    expected = by_hand(model, lambda t, h, w: ForwardOptions(self_attention_scale=scale))
    assert_same_picture(found, expected)


def test_proportional_attention_never_softens(model):
    on = resolved(model, "none", trained=256, attention="on")
    assert torch.equal(ksampler(on), ksampler(model))


@pytest.mark.parametrize("backend", ["basic", "sub_quad", "split", "pytorch"])
def test_every_attention_backend_scales(model, backend, monkeypatch):
    import comfy.ldm.modules.attention as attention

    expected = ksampler(resolved(model, "none", attention="on"))
    chosen = getattr(attention, f"attention_{backend}")
    monkeypatch.setattr(attention, "optimized_attention", chosen)
    assert_same_picture(ksampler(resolved(model, "none", attention="on")), expected)


# --- the trained size


@pytest.mark.parametrize("stated, expected", [("512", 32), (None, 64), ("big", 64)])
def test_trained_size_is_read_from_the_file(folder, stated, expected):
    from lumina_next.host.model import loading
    from lumina_next.host.options import settings

    about = None if stated is None else {"trained_size_px": stated}
    save_file(tiny.weights(), folder / "sized.safetensors", about)
    assert settings.trained_tokens(loading.load_model("sized.safetensors")) == expected
    assert settings.trained_tokens(loading.load_model("sized.safetensors"), 256) == 16


def test_trained_size_is_read_from_a_diffusers_folder(folder):
    from lumina_next.host.model import loading
    from lumina_next.host.options import settings

    pipeline = folder / "lumina-diffusers"
    pipeline.mkdir(exist_ok=True)
    save_file(tiny.diffusers_weights(), pipeline / "diffusion_pytorch_model.safetensors")
    (pipeline / "config.json").write_text('{"sample_size": 32}')
    assert settings.trained_tokens(loading.load_model("lumina-diffusers")) == 16


def test_demo_model_knows_its_size(host):
    from lumina_next.host.model import loading
    from lumina_next.host.options import settings

    assert settings.trained_tokens(loading.load_model("lumina-next-demo.safetensors")) == 8


# --- context drop


def test_context_drop_is_the_same_by_hand(model):
    drop = ContextDrop(2, 0.8, "last")

    def options(t, height, width):
        return ForwardOptions(cells=Cells(height, width, 2), dropping=drop.layers(t, CONFIG.layers))

    found = ksampler(dropped(model, 2, 0.8, "last"))
    assert_same_picture(found, by_hand(model, options))
    assert not torch.allclose(found, ksampler(model), atol=0.05)


def test_context_drop_of_factor_one_is_the_model_to_the_bit(model):
    assert torch.equal(ksampler(dropped(model, 1)), ksampler(model))


@pytest.mark.parametrize("height, width", [(15, 17), (16, 10)])
def test_context_drop_takes_any_size(model, height, width):
    found = ksampler(dropped(model, 3), height, width)
    assert found.shape == (1, 4, height, width) and found.isfinite().all()


def test_settings_of_both_nodes_add_up(model):
    scaling, drop = Scaling("linear"), ContextDrop(2, 1.0)

    def options(t, height, width):
        return ForwardOptions(
            rotation(scaling, t, height, width),
            cells=Cells(height, width, 2),
            dropping=drop.layers(t, CONFIG.layers),
        )

    expected = by_hand(model, options)
    assert_same_picture(ksampler(dropped(resolved(model, "linear"))), expected)
    assert_same_picture(ksampler(resolved(dropped(model), "linear")), expected)


def test_other_models_are_refused(model):
    from lumina_next.host.options import settings

    class Other:
        class model_config:
            unet_config = {"image_model": "flux"}

    model = model.clone()
    model.model = Other()
    with pytest.raises(ValueError, match="not a Lumina-Next model but Other"):
        settings.check_model(model)
