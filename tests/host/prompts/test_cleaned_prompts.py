"""Prompts cleaned as diffusers cleans them, and encoded."""

import random

import pytest

from lumina_next.lumina.prompts.cleaning import clean
from lumina_next.tests.lumina.prompts.test_cleaning import CLEANED
from lumina_next.tests.support.text_encode import assert_same, both, native


def test_cleaned_prompt_is_encoded(clip, shown):
    given = "A red Cat.jpg (Dog:1.2), http://example.com"
    found = both(clip, given, given, cleaning="all")
    assert_same(found[0], native(clip, "a red (dog:1.2)"))
    assert_same(found[1], native(clip, given))
    assert 'positive: cleaned to "a red (dog:1.2)"' in shown[-1]


def test_latin_cleaning_spares_other_scripts(clip):
    assert_same(both(clip, "A 猫", cleaning="Latin text")[0], native(clip, "A 猫"))
    assert_same(both(clip, "A Cat", cleaning="Latin text")[0], native(clip, "a cat"))
    assert_same(both(clip, "A 猫", cleaning="all")[0], native(clip, "a 猫"))


def test_prompt_that_is_only_an_address_is_empty_and_says_so(clip, shown):
    found = both(clip, "https://example.com/cat", cleaning="all")
    assert_same(found[0], native(clip, ""))
    assert "positive: cleaning left nothing of it" in shown[-1]


def test_host_reads_the_same_weights_from_a_cleaned_prompt(host):
    from comfy.sd1_clip import token_weights

    given = "A (RED:1.3) Cat.png (on (the BIG:-0.7) Mat), [x] (r2d2:1.9) (embedding:My_Style:0.5)"
    assert token_weights(clean(given), 1.0) == [
        ("a ", 1.0), ("red", 1.3), (" ", 1.0), ("on ", 1.1), ("the big", -0.7), (" mat", 1.1),
        (", x ", 1.0), ("embedding:My_Style", 0.5),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def of_diffusers():
    """LuminaPipeline's cleaning: text to text."""
    pytest.importorskip("bs4")  # without these two it does not clean
    pytest.importorskip("ftfy")
    from diffusers import LuminaPipeline  # seconds to import

    pipeline = LuminaPipeline.__new__(LuminaPipeline)
    return lambda text: pipeline._text_preprocessing(text, clean_caption=True)[0]


@pytest.mark.parametrize("text", CLEANED)
def test_diffusers_cleans_the_same(of_diffusers, text):
    assert of_diffusers(text) == CLEANED[text]


WORDS = """
A|Cat|of|RED|Zürich|naïve|O'Neil|snow-white|old_town|R2D2|jc6640|iphone6s|b52|abc123|xbox360|12
3.14|1,000|1234567|#12|#1234|#12345|1920x1080|4x4|12:30|192.168.0.1|page 3|page|free shipping
shipping|download free|click for more|click on it|png|jpg image|a.png|photo_1.JPG|/home/x/y.webp
<b>|</b>|<br/>|<a href="u">|<person>|<!-- no -->|&amp;|&quot;|&nbsp;|&#39;|&eacute;|&mdash;|@nick
me@home|http://example.com|https://www.example.org/a/b_c-d|shop.example.net|“quoted”|‘single’
«guillemets»|—|–|-|--|…|...|..|.|!|?!|;|:|'|"|''|""|©|®|™|•|½|~|*|/|[x]|{y}|\\n|50%|%20|+|C++|<3
a < b|ＦＵＬＬ|ﬁne|привет|שלום|مرحبا|हिन्दी|ไทย|한국어|カタカナ|😀|ß|İ|Σ|²|°C|€5|$3|a/b|a,b|Mr.
""".replace("\n", "|").strip("|").split("|")  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_diffusers_cleans_any_mixture_the_same(of_diffusers, seed):
    draw = random.Random(seed)
    for _ in range(40):
        words = [draw.choice(WORDS) + draw.choice(["", "", "", ",", "."]) for _ in range(8)]
        text = " ".join(words[: draw.randint(1, 8)])
        assert clean(text) == of_diffusers(text), text
