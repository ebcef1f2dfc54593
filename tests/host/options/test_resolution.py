"""Resolution in ComfyUI: each picture against plain torch by the same rules."""

import math

import pytest
import torch
from torch.testing import assert_close

from lumina_next.lumina.options import resolution
from lumina_next.lumina.options.forward import ForwardOptions
from lumina_next.lumina.rope.scaling import Scaling
from lumina_next.tests.support.option_nodes import HEAD_DIM, TRAINED, by_hand, resolved, rotation
from lumina_next.tests.support.tiny import assert_same_picture, ksampler

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


def test_missing_method_is_answered_with_the_list(model):
    from lumina_next.nodes.options.resolution import ResolutionNode

    with pytest.raises(ValueError, match='"method" is missing or not in the list.*auto, none'):
        ResolutionNode.execute(model, 0, False, "auto", None)


@pytest.mark.parametrize("trained", [8, 16])
def test_trained_size_too_small_to_compare_with_is_refused(model, trained):
    with pytest.raises(ValueError, match=r"at least 2 tokens \(32 px\)"):
        resolved(model, trained=trained)


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
