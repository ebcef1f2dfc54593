"""Lumina-Next Text Encode: two "CLIP Text Encode" at its defaults, and what each setting adds."""

import pytest
import torch
from torch.testing import assert_close

from lumina_next.tests.support.text_encode import (
    CAT,
    DOG,
    MAT,
    assert_same,
    both,
    custom,
    differs,
    empty,
    native,
    schema,
    tokens,
)

# --- the defaults


@pytest.mark.parametrize(
    "positive, negative",
    [(CAT, ""), (" (A red:1.3) Cat.jpg ", "(dog:0.5)"), ("猫\nsee http://a.com", DOG), ("", "")],
)
def test_new_node_is_two_native_ones_to_the_bit(clip, positive, negative):
    found = both(clip, positive, negative)
    assert_same(found[0], native(clip, positive))
    assert_same(found[1], native(clip, negative))


def test_only_prompts_are_shown_at_first(host):
    advanced = {i.id: bool(i.as_dict().get("advanced")) for i in schema().inputs if i.id != "clip"}
    assert [name for name, hidden in advanced.items() if not hidden] == ["positive", "negative"]
    assert schema().inputs[1].as_dict()["dynamicPrompts"] is True


def test_everything_has_a_tooltip(host):
    items = [*schema().inputs, *schema().outputs]
    nested = [item for each in schema().inputs for item in each.get_all()]
    assert all(item.tooltip and item.tooltip.endswith(".") for item in [*items, *nested])
    assert all(len(item.tooltip) < 500 for item in nested)


@pytest.mark.parametrize("text", ["a (red:1.0) cat", "(a red cat:1.0)", "((a:1.0) red) cat"])
def test_weight_1_changes_nothing_to_the_bit(clip, text):
    found, plain = both(clip, text)[0][0][0], both(clip, CAT)[0][0][0]
    words = tokens("a red") if "red)" in text else tokens("")
    assert torch.equal(found[:, words:], plain[:, words:])
    assert torch.equal(found, plain) == ("red)" not in text)


@pytest.mark.parametrize(
    "text, weight",
    [
        ("a red (cat)", 1.1),
        ("a red ((cat))", 1.21),
        ("a red (cat:0.3)", 0.3),
        ("a red (cat:-0.5)", -0.5),
        ("a red ((cat:1.5):1.2)", 1.5),
        ("a red ((cat):1.2)", 1.32),
        ("a red (cat:0)", 0.0),
    ],
)
def test_weight_leads_away_from_the_empty_prompt_by_its_amount(clip, text, weight):
    (plain, _), (found, rest) = native(clip, CAT)[0], both(clip, text)[0][0]
    start, before = empty(plain.shape[1]), tokens("a red ")
    assert torch.equal(found[:, :before], plain[:, :before])
    expected = start + weight * (plain - start)
    assert_close(found[:, before:], expected[:, before:])
    assert rest["attention_mask"].all()


def test_negative_prompt_has_weights_too(clip):
    assert_same(both(clip, "", "a (dog:1.4)")[1], native(clip, "a (dog:1.4)"))


# --- templates


@pytest.mark.parametrize("name", ["superior", "alignment"])
def test_system_prompt_is_the_hosts_to_the_bit(clip, host, name):
    import nodes

    lumina2 = nodes.NODE_CLASS_MAPPINGS["CLIPTextEncodeLumina2"]
    expected = lumina2.execute(clip, CAT, name).result[0]
    found = both(clip, CAT, MAT, template={"template": name})
    assert_same(found[0], expected)
    assert_same(found[1], native(clip, MAT))
    assert differs(found[0], native(clip, CAT))


def test_template_stands_around_the_positive_prompt_only(clip):
    found = both(clip, "(cat:0.5)", "a dog", **custom("a (green {prompt}:1.3), the mat"))
    assert_same(found[0], native(clip, "a (green (cat:0.5):1.3), the mat"))
    assert_same(found[1], native(clip, "a dog"))


def test_template_without_a_place_is_refused(clip):
    with pytest.raises(ValueError, match="no {prompt}"):
        both(clip, CAT, **custom("the mat"))


def test_template_that_nobody_sent_is_asked_for(clip):
    with pytest.raises(
        ValueError, match='"template" is missing.*none, superior, alignment, custom'
    ):
        both(clip, CAT, template=None)


# --- other encoders, and none


def test_missing_clip_is_said(host):
    with pytest.raises(ValueError, match='"clip" is empty.*Load Lumina-Next Text Encoder'):
        both(None)


@pytest.fixture
def clip_l(host):
    """A CLIP-L of two tiny layers: prompts of 77 tokens, a pooled vector, no mask."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models_base

    sizes = {
        "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "vocab_size": 49408,
        "intermediate_size": 32, "hidden_act": "quick_gelu", "max_position_embeddings": 77,
        "eos_token_id": 49407,
    }  # fmt: skip

    class Tiny(comfy.sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(device, dtype=dtype, textmodel_json_config=sizes)

    class Model(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(device, dtype, {}, clip_model=Tiny)

    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, Model)
    clip = comfy.sd.CLIP(target, parameters=1)
    for parameter in clip.cond_stage_model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    return clip


def test_other_encoders_work_as_in_the_native_node(clip_l, shown):
    found = both(clip_l, "a (red:1.3) cat", "dog")
    assert_same(found[0], native(clip_l, "a (red:1.3) cat"))
    assert_same(found[1], native(clip_l, "dog"))
    assert shown == []


def test_batch_of_another_encoder_keeps_its_pooled_vectors(clip_l):
    long = "cat " * 100  # two parts of 77 tokens
    ((features, rest),) = both(clip_l, f"a cat\na dog\n{long}", batch=True)[0]
    each = [native(clip_l, text)[0] for text in ("a cat", "a dog", long.strip())]
    assert features.shape == (3, 154, 16) and torch.equal(features[2], each[2][0][0])
    assert torch.equal(rest["pooled_output"], torch.cat([own["pooled_output"] for _, own in each]))
    assert rest["attention_mask"].sum(1).tolist() == [77, 77, 154]
    ((_, rest),) = both(clip_l, "a cat\na dog", batch=True)[0]
    assert "attention_mask" not in rest
