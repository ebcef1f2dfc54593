"""Anything else in place of a link is a sentence that names the input."""

import pytest
import torch

from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import empty, load
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE

FOREIGN = [("a text", 'the text "a text"'), (5, "the value 5"), (None, "nothing")]
FOREIGN += [({"samples": 3}, "something else (dict)"), ([1, 2], "something else (list)")]


@pytest.fixture
def inputs(folder):
    return {
        "model": load(), "positive": POSITIVE, "negative": NEGATIVE, "latent_image": empty(),
        "seed": 1, "cfg": 4.0, "denoise": 1.0, "preset": {"preset": "Fast"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "name, link",
    [
        ("model", "MODEL"),
        ("positive", "CONDITIONING"),
        ("negative", "CONDITIONING"),
        ("latent_image", "LATENT"),
    ],
)
@pytest.mark.parametrize("value, described", FOREIGN, ids=str)
def test_sampler_names_the_input(inputs, name, link, value, described):
    with pytest.raises(ValueError) as refusal:
        node("LuminaNextSampler", **inputs | {name: value})
    said = f'The input "{name}" needs a {link} and was given {described}. Connect it to a node '
    assert str(refusal.value).startswith(said)


def test_conditioning_in_place_of_a_model_is_named(inputs):
    with pytest.raises(ValueError, match='"model" needs a MODEL and was given something else'):
        node("LuminaNextSampler", **inputs | {"model": POSITIVE})


@pytest.mark.parametrize(
    "name, settings",
    [
        (
            "LuminaNextGuidance",
            {"channels": "all", "start": 1, "end": 0, "renorm": 0, "rescale": 0, "zero_steps": 0},
        ),
        ("LuminaNextContextDrop", {"factor": 2, "until": 1.0, "order": "first"}),
    ],
)
def test_options_name_the_input(host, name, settings):
    with pytest.raises(ValueError, match='"model" needs a MODEL and was given the value 5'):
        node(name, model=5, **settings)


def test_text_encode_names_the_input(host):
    with pytest.raises(ValueError, match='"clip" needs a CLIP and was given the text "gemma"'):
        node(
            "LuminaNextTextEncode", clip="gemma", positive="", negative="",
            template={"template": "none"}, cleaning="off", batch=False,
        )  # fmt: skip


@pytest.mark.parametrize("value", [5, "0.5", {"sigmas": 3}, None], ids=str)
def test_plot_sigmas_names_the_input(host, value):
    with pytest.raises(ValueError, match='"sigmas1" needs a SIGMAS and was given'):
        node("LuminaNextPlotSigmas", sigmas={"sigmas0": torch.ones(2), "sigmas1": value})


def test_sigmas_that_are_not_finite_are_named(host):
    with pytest.raises(ValueError, match="sigmas0.*not finite"):
        node("LuminaNextPlotSigmas", sigmas={"sigmas0": torch.tensor([1.0, float("nan")])})
