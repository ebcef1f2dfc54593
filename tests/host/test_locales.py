"""The pack in other languages, against the nodes as they are: complete, and nothing left over."""

import json
import re

import pytest

from lumina_next.tools import locales
from lumina_next.tools.environment import ROOT
from lumina_next.tools.node_texts import node_texts

SCRIPTS = {
    "zh": "[\u4e00-\u9fff]",
    "zh-TW": "[\u4e00-\u9fff]",
    "ja": "[\u3040-\u30ff\u4e00-\u9fff]",
    "ko": "[\uac00-\ud7af]",
    "ru": "[\u0400-\u04ff]",
    "ar": "[\u0600-\u06ff]",
    "fr": "[a-z]",
    "es": "[a-z]",
}
# In a translation such a word stays as it is: what is typed, chosen, or in a folder.
KEPT = re.compile(
    r"\{\w+\}|models/\w+|\(\w+:[\d.]+\)|[A-Za-z]+\d?_[a-z\d_]+|MODEL|SIGMAS|0\.95", re.ASCII
)


@pytest.fixture(scope="module")
def definitions(host):
    """The nodes as /object_info describes them."""
    from lumina_next.nodes import NODES

    return {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in NODES}


def ordered(definitions):
    return dict(sorted(definitions.items()))


def test_nothing_is_missing_stale_or_unwritten_in_any_language(definitions):
    assert locales.problems(ordered(definitions)) == []


def test_folders_are_those_of_the_languages():
    assert {path.name for path in (ROOT / "locales").iterdir()} == set(locales.LANGUAGES)
    assert SCRIPTS.keys() == set(locales.LANGUAGES)


@pytest.mark.parametrize("code", locales.LANGUAGES)
def test_sentences_are_in_the_script_of_the_language(definitions, code):
    known = locales.load(code)
    sentences = [text for text in known if text.count(" ") > 3]
    assert len(sentences) > 80
    assert [text for text in sentences if not re.search(SCRIPTS[code], known[text])] == []
    assert [text for text in sentences if known[text] == text] == []


@pytest.mark.parametrize("code", locales.LANGUAGES)
def test_what_is_typed_or_chosen_is_the_same_in_every_language(code):
    changed = {
        text: translation
        for text, translation in locales.load(code).items()
        if " " in text and set(KEPT.findall(text)) - set(KEPT.findall(translation))
    }
    assert changed == {}


@pytest.mark.parametrize("code", locales.LANGUAGES)
def test_inputs_of_a_node_have_different_names(code):
    file = ROOT / "locales" / code / "nodeDefs.json"
    for node, texts in json.loads(file.read_text("utf-8")).items():
        at_the_top = [name for name in texts.get("inputs", {}) if "_" not in name]
        names = [texts["inputs"][name]["name"] for name in at_the_top]
        assert len(set(names)) == len(names), node


def test_every_text_of_every_node_is_looked_for(definitions):
    for node, definition in definitions.items():
        texts = node_texts(definition)
        for name in definition["input"].get("required", {}):
            assert texts[("inputs", name, "name")] and texts[("inputs", name, "tooltip")], node
