"""What the demo's text encoder says of words it was not trained on, in every node that encodes."""

import pytest

from lumina_next.tests.support import jobs
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.text_encode import both

DEMO = jobs.DEMO_GRAPH["text_encoder"]["inputs"]["text_encoder_name"]
KNOWN = "a red circle at the top left on a white background"
UNKNOWN = "The demo model does not know: cat, hat. It knows: circle, square,"


@pytest.fixture
def demo_clip(host):
    from lumina_next.host.text_encoders.loading import load_text_encoder

    return load_text_encoder(DEMO)


@pytest.fixture
def warned(demo_clip, monkeypatch):
    """What is logged as a warning and shown on the node."""
    from lumina_next.host import notices

    texts = []
    monkeypatch.setattr(notices, "_show", texts.append)
    return texts


def test_native_node_says_it(demo_clip, warned):
    node("CLIPTextEncode", clip=demo_clip, text="a (cat:1.2) at the hat")
    assert len(warned) == 1 and warned[0].startswith(UNKNOWN)


def test_text_encode_says_it_beside_the_lengths(demo_clip, warned):
    both(demo_clip, "a cat at the hat", KNOWN)
    (text,) = warned
    assert "tokens" in text and f"positive: {UNKNOWN}" in text and "negative: The" not in text


def test_known_words_need_no_remark(demo_clip, warned):
    node("CLIPTextEncode", clip=demo_clip, text=KNOWN.upper() + ", (star:1.3)")
    assert warned == []


def test_saved_text_encoder_keeps_its_list(demo_clip, host):
    from safetensors.torch import save_file

    from lumina_next.host.text_encoders.loading import load_text_encoder

    path = host.models / "text_encoders" / "saved-demo.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in demo_clip.get_sd().items()}, path)
    again = load_text_encoder(path.name).tokenizer.inner.known_words
    assert again == demo_clip.tokenizer.inner.known_words


def test_encoder_without_a_list_never_says_it(clip, warned):
    node("CLIPTextEncode", clip=clip, text="a cat wearing a hat")
    assert warned == []
