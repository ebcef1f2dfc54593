"""The text encode node called as the host calls it, and two native ones to compare with."""

import sentencepiece
import torch
from torch.testing import assert_close

from lumina_next.tests.support import jobs, tiny
from lumina_next.tests.support.host_nodes import node

CAT, DOG, MAT = "a red cat", "a green dog sit on the mat", "the blue mat"


def schema():
    from lumina_next.nodes.prompts import TextEncode

    return TextEncode.define_schema()


def defaults():
    """What the editor's widgets hold on a new node, in the form that a run hands it over."""
    values = {item.id: getattr(item, "default", None) for item in schema().inputs}
    (template,) = (item for item in schema().inputs if item.id == "template")
    return values | {"template": {"template": template.options[0].key}}


def both(clip, positive=CAT, negative="", **settings):
    """(positive, negative) as the node gives them out."""
    from lumina_next.nodes.prompts import TextEncode

    values = {**defaults(), "clip": clip, "positive": positive, "negative": negative}
    return TextEncode.execute(**values | settings).result


def custom(text):
    return {"template": {"template": "custom", "text": text}}


def native(clip, text):
    """What "CLIP Text Encode" gives out."""
    return node("CLIPTextEncode", clip=clip, text=text)


def assert_same(found, expected):
    """To the bit, everything that a CONDITIONING carries."""
    assert len(found) == len(expected)
    for (features, rest), (other_features, other_rest) in zip(found, expected, strict=True):
        assert torch.equal(features, other_features)
        assert rest.keys() == other_rest.keys()
        assert_close(rest, other_rest, rtol=0, atol=0)


def differs(found, expected):
    """Whether the features of two prompts of equal length differ visibly, or their lengths do."""
    (one, _), (other, _) = found[0], expected[0]
    return one.shape != other.shape or (one - other).abs().max() > 1e-3


def tokens(text):
    """How many there are, by SentencePiece itself."""
    return 1 + len(sentencepiece.SentencePieceProcessor(model_proto=tiny.pieces()).encode(text))


def empty(length):
    """Features of the text that weights lead away from: the begin token, then padding."""
    ids = torch.tensor([[2] + [0] * (length - 1)])
    states = tiny.gemma()(ids, attention_mask=(ids != 0).long(), output_hidden_states=True)
    return states.hidden_states[-2]


ENCODE = {
    "class_type": "LuminaNextTextEncode",
    "inputs": {
        "clip": ["text_encoder", 0],
        "positive": "a blue square",
        "negative": "a red circle",
        "template": "none",
        "cleaning": "off",
        "batch": False,
    },
}


def graph(**inputs):
    """The demo's with the node in place of its two CLIPTextEncode, and the latent saved."""
    api = jobs.with_inputs(
        jobs.good_graph(), sampler={"positive": ["both", 0], "negative": ["both", 1], "seed": 3}
    )
    api["both"] = {**ENCODE, "inputs": ENCODE["inputs"] | inputs}
    api["latents"] = {
        "class_type": "SaveLatent",
        "inputs": {"samples": ["sampler", 0], "filename_prefix": "text-encode"},
    }
    return api
