"""The demo's vocabulary, and the list of its words in the text encoder's file."""

import importlib
import json

import pytest
from safetensors import safe_open

from lumina_next.lumina.prompts.known_words import KnownWords
from lumina_next.tools.environment import ROOT

FILE = ROOT / "demo" / "models" / "text_encoders" / "lumina-next-demo.safetensors"


@pytest.fixture
def tokenizer():
    return importlib.import_module("demo.training.tokenizer")


def test_file_lists_every_word_of_the_captions(tokenizer):
    with safe_open(FILE, framework="pt") as opened:
        config_json = json.loads(opened.metadata()["config"])
    assert config_json == tokenizer.known_words(sentences=2000).to_config()


def test_words_that_a_person_can_ask_for_come_first(tokenizer):
    words = tokenizer.known_words(sentences=2000).words
    assert words[:6] == tokenizer.SHAPES
    assert words.index("gray") < words.index("a")


def test_main_caption_has_known_words_only(tokenizer):
    drawing = importlib.import_module("demo.scenes.drawing")
    scene = drawing.Scene("white", (drawing.Thing("star", "pink", "center"),))
    known = KnownWords.from_config(tokenizer.known_words(2000).to_config(), "")
    assert known.explain_unknown(drawing.main_caption(scene)) is None
