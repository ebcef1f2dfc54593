"""CLIPs of small text encoders for the tests: their features, and transformers' to compare with."""

import copy

from lumina_next.tests.support import tiny

FAMILIES = tiny.TEXT_FAMILIES
PROMPT = "a red cat and the blue mat"


def encode_tokens(clip, text, **options):
    """Features and mask of a prompt whose tokens are padded or the like by options."""
    out = clip.encode_from_tokens(clip.tokenize(text, **options), return_dict=True)
    return out["cond"], out["attention_mask"]


def transformer(clip, family):
    return getattr(clip.cond_stage_model, family.host_name).transformer


def with_weights(family, change):
    """A copy of transformers' model, each of whose weights `change(key, tensor)` replaces."""
    model = copy.deepcopy(family.model())
    for key, tensor in model.state_dict().items():
        tensor.copy_(change(key, tensor))
    return model
