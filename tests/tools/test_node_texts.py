"""Texts of nodes are found at the addresses where the editor looks for their translations."""

import copy

import pytest

from lumina_next.tools.node_texts import node_texts, pieces

MU = {"mu": ["FLOAT", {"tooltip": "Where."}]}
DEFINITION = {
    "name": "LuminaNextTest",
    "display_name": "Test",
    "description": "Tests.",
    "input": {
        "required": {
            "model_name": [["a", "b"], {"display_name": "model", "tooltip": "A file."}],
            "seed": ["INT", {"control_after_generate": True}],
            "plan": [
                "COMFY_DYNAMICCOMBO_V3",
                {
                    "tooltip": "How.\nfirst: one way.",
                    "options": [
                        {"key": "first", "inputs": {"required": {}}},
                        {"key": "second", "inputs": {"required": MU}},
                        {"key": "third", "inputs": {"optional": MU}},
                    ],
                },
            ],
        },
        "optional": {
            "sigmas": [
                "COMFY_AUTOGROW_V3",
                {
                    "template": {
                        "input": {"required": {"sigmas": ["SIGMAS", {"tooltip": "Levels."}]}},
                        "prefix": "sigmas",
                        "max": 2,
                    }
                },
            ]
        },
        "hidden": {"prompt": ["PROMPT"]},
    },
    "output": ["LATENT", "MODEL"],
    "output_name": ["denoised", "MODEL"],
    "output_tooltips": ["The picture.", None],
}


def test_every_text_is_found():
    assert node_texts(DEFINITION) == {
        ("display_name",): "Test",
        ("description",): "Tests.",
        ("inputs", "model_name", "name"): "model",
        ("inputs", "model_name", "tooltip"): "A file.",
        ("inputs", "seed", "name"): "seed",
        ("inputs", "plan", "name"): "plan",
        ("inputs", "plan", "tooltip"): "How.\nfirst: one way.",
        ("inputs", "plan_mu", "name"): "mu",
        ("inputs", "plan_mu", "tooltip"): "Where.",
        ("inputs", "sigmas", "name"): "sigmas",
        ("inputs", "sigmas_sigmas0", "tooltip"): "Levels.",
        ("inputs", "sigmas_sigmas1", "tooltip"): "Levels.",
        ("outputs", "0", "name"): "denoised",
        ("outputs", "0", "tooltip"): "The picture.",
    }


def test_two_texts_at_one_address_are_refused():
    definition = copy.deepcopy(DEFINITION)
    options = definition["input"]["required"]["plan"][1]["options"]
    options[2]["inputs"]["optional"] = {"mu": ["FLOAT", {"tooltip": "Elsewhere."}]}
    with pytest.raises(ValueError, match=r'two texts for inputs\.plan_mu\.tooltip: "Where\."'):
        node_texts(definition)


def test_names_of_choices_stay_and_what_they_mean_is_translated():
    assert list(pieces("How long: a step.\nheun (2): second order.\nNo name.")) == [
        ("", "How long: a step."),
        ("heun (2): ", "second order."),
        ("", "No name."),
    ]
