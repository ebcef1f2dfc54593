"""Prompts are cleaned.

host/prompts/test_cleaned_prompts.py tests what diffusers makes of CLEANED, and many more texts with
it: importing diffusers takes seconds.
"""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_next.lumina.prompts import cleaning as prompts_cleaning
from lumina_next.lumina.prompts.cleaning import clean, is_latin

CLEANED = {
    "A Red Cat,  sitting on the Mat.": "a red cat, sitting on the mat.",
    "a cat\n\tand\u00a0a\u3000dog ": "a cat and a dog",
    "": "",
    # HTML
    "<b>bold</b> move<br/>": "bold move",
    'a <a href="u">link</a> <!-- not this -->here': "a link here",
    "<script>x</script>a <style>y</style>cat": "a cat",
    '<span style="color: rgb(1,2,3)">red</span> <i title="a (b) c">cat</i>': "red cat",
    "a <person> walking": "a person walking",
    "a < b, I <3 you": "a < b, i <3 you",
    "salt &amp; pepper &quot;caf&eacute;&quot; &#39;n&#39; &nbsp x&nbsp;y": 'salt pepper "café" '
    "'n' x y",
    "a%20red%2C+fat+cat": "a red, fat cat",
    "100% cotton": "100% cotton",
    # addresses and names
    "http://example.com": "",
    "see https://www.example.org/a/b_c-d and shop.example.net here": "see and here",
    "by @some_one at me@example.com": "by at me",
    "at 192.168.0.1 now": "at now",
    "/home/me/IMG_1234.jpg of a cat.webp on a mat": "of a on a mat",
    # numbers and codes
    "#12 a #1234 b #12345 c 1234567 d 12345": "a 1234 b c d 12345",
    "jc6640 jc6640vc 6640vc231 a1b2 of r2d2": "of",
    "a b52, mp3, 4k, ps5, xbox360, 3.14, 1,000 cats": "a b52, mp3, 4k, ps5, xbox360, 3.14, "
    "1,000 cats",
    "a 1920x1080 wallpaper, 12:30": "a wallpaper, 12:30",
    # what shops and pages say
    "Worldwide free shipping of a cat, free download": "of a cat",
    "a cat click for more, jpg image of page 12": "a cat , of",
    # quotes, dashes, repetition
    "“curly” and ‘single’ «guillemets» `ticks` here": '"curly" and \'single\' "guillemets" '
    '"ticks" here',
    '"quoted whole"': "quoted whole",
    "it's ''twice'' here": 'it\'s "twice" here',
    "a — b – c": "a - b - c",
    "snow-white and old-fashioned": "snow-white and old-fashioned",
    "snow-white, old-fashioned, hand-made, half-open": "snow white, old fashioned, hand made, "
    "half open",
    "under_the_old_tree_here": "under the old tree here",
    "wait... what?! yes!!": "wait what?! yes!!",
    "*star* ~ [x] {y|z} a/b & c • © ™": "star x y z a b c",
    "a . b , c : d,e.f": "a b , c: d, e. f",
    "-'a cat,": "a cat",
    ".hidden": "",
    # odd characters
    "ＦＵＬＬ ﬁne e\u0301t\u0301\ufeff\x07": "full fine ét́",
    "Ünïcödé ÉTÉ ß 😀": "ünïcödé été ß 😀",
    "Привет مرحبا हिन्दी ไทย 한국어 カタカナ": "привет مرحبا हिन्दी ไทย 한국어 カタカナ",
}
OURS = {
    # letters that diffusers drops
    "一只红色的猫，在垫子上。": "一只红色的猫, 在垫子上。",
    "猫 on a 畳": "猫 on a 畳",
    "猫.png @猫 5º": "猫. 猫 5º",
    # addresses of which it leaves a part, and words that it takes for one
    "see https://example.org/a/b?c=d#e, foo.co.uk/x?y=z here": "see , here",
    "Mr.Rush is a.rural man": "mr. rush is a. rural man",
    "&lt;b&gt;Bold&lt;/b&gt; &amp;quot;move&amp;quot;": 'bold "move"',
    "rock &region 5%add x": "rock region 5%add x",
    # weights, escapes, embeddings
    "A (RED:1.3) Cat": "a (red:1.3) cat",
    "((A))  (B c:-0.5), (d :  1.1 )": "((a)) (b c:-0.5), (d :  1.1 )",
    r"smile \(Film\), \(\)": r"smile \(film\), \(\)",
    "a embedding:My_Style.PT, (embedding:Other:1.2) B": "a embedding:My_Style.PT, "
    "(embedding:Other:1.2) b",
    "a (http://example.com:1.3) cat, (r2d2) ((jc6640:1.1):1.2)": "a cat,",
    "(<b>Bold</b> move:1.2)": "(bold move:1.2)",
    "(a <b title='(x'>Big</b> cat:1.3)": "(a big cat:1.3)",
    "（a）&#40;b&#41;%28c%29": "a b c",
}


@pytest.mark.parametrize("text", CLEANED)
def test_markup_addresses_and_odd_characters_are_removed(text):
    assert clean(text) == CLEANED[text]


@pytest.mark.parametrize("text", OURS)
def test_what_a_prompt_here_may_hold_stays(text):
    assert clean(text) == OURS[text]


def letters(text):
    """Letters without their case, widths and ligatures undone; and the marks they carry."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return [c for c in text if unicodedata.category(c)[0] in "LM"]


def characters(*ranges):
    return "".join(chr(c) for low, high in ranges for c in range(low, high + 1))


SCRIPTS = {
    "Chinese": characters((0x4E00, 0x4E40), (0x3400, 0x3420), (0x3105, 0x3120), (0xF900, 0xF920)),
    "Japanese": characters((0x3041, 0x30FF), (0xFF66, 0xFF9D), (0x31F0, 0x31FF)) + "猫々〆ヶ",
    "Korean": characters((0xAC00, 0xAC40), (0x1100, 0x1112), (0x3131, 0x3160)),
    "Arabic": characters((0x0621, 0x064A), (0x064B, 0x0652), (0x0671, 0x06D3), (0xFB50, 0xFBB0)),
    "Hebrew": characters((0x05D0, 0x05EA), (0x05B0, 0x05BD)),
    "Cyrillic": characters((0x0400, 0x045F), (0x0490, 0x04FF)),
    "Greek": characters((0x0391, 0x03A1), (0x03A3, 0x03CE), (0x1F00, 0x1F15)),
    "Devanagari": characters((0x0904, 0x0939), (0x093E, 0x094D), (0x0958, 0x0961)),
    "Thai": characters((0x0E01, 0x0E3A), (0x0E40, 0x0E4E)),
    "accented Latin": characters((0x00C0, 0x00D6), (0x00D8, 0x00F6), (0x00F8, 0x024F)) + "ªº",
}
BETWEEN = " \n.,;:!?'\"()[]{}<>#%&*+-_/\\|~。、，！？「」（）“”…—\u200c\u200d"


@pytest.mark.parametrize("script", SCRIPTS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_every_letter_of_every_script_stays(script, data):
    text = data.draw(st.text(SCRIPTS[script] + BETWEEN, max_size=40))
    assert sorted(letters(clean(text))) == sorted(letters(text))  # marks may change their order


@given(
    st.text(characters((0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF), (0x2600, 0x26FF)) + "\ufe0f\u200d")
)
@settings(max_examples=30, deadline=None)
def test_emoji_stay(text):
    assert clean(text) == text


@given(st.text(characters((0, 0x24F), (0x2000, 0x206F), (0xFDD0, 0xFDD1), (0xFF00, 0xFF5E))))
@settings(max_examples=50, deadline=None)
def test_any_text_can_be_cleaned(text):
    found = clean(text)
    assert found == found.strip() and prompts_cleaning.MARK not in found


@given(
    st.recursive(
        st.sampled_from(
            ["Cat", "http://example.com ", "r2d2", "- ", "jpg, ", "猫", r"\(", "a.B", ""]
        ),
        lambda inner: (
            st.lists(inner, max_size=3).map(" ".join).map("({}:1.3)".format)
            | st.lists(inner, max_size=3).map(" ".join).map("({})".format)
        ),
        max_leaves=6,
    )
)
@settings(max_examples=50, deadline=None)
def test_parentheses_stay_balanced(text):
    found = clean(text).replace(r"\(", "")
    depth = 0
    for letter in found:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0


PIECES = ["a", "a.", "1.", "a-", "<", "<a", "<!--", "<script>", "(", ":1", "猫", "http://", "&amp;"]
PIECES += ["embedding:", "\\", "'\"", " ", "free ", "a1", "@", ", ", "\n", "\\n", "+", "%20", "&#"]
PIECES += ["<a b='(", "page ", "\u0f73", "\u0f73\u0300", "ﾞ\u0300", "\u0301\u0323"]
ENDS = ["", "!", "_", " .", "é", ")"]


def seconds(piece, length, end=""):
    text = piece * (length // len(piece)) + end
    begin = time.process_time()
    clean(text)
    is_latin(text)
    return time.process_time() - begin


@pytest.mark.parametrize("piece", PIECES)
def test_long_text_takes_no_time(piece):
    """10^5 characters usually take 0.1 s."""
    for end in ENDS:  # before the long one, which could take minutes
        assert seconds(piece, 10_000, end) < 0.5
    assert seconds(piece, 100_000, "!") < 4


@given(st.lists(st.sampled_from([*PIECES, ".", ":", "1", "com", ">", "x"]), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_four_times_the_text_takes_no_more_than_four_times_as_long(pieces):
    piece = "".join(pieces)
    assert seconds(piece, 40_000) < 8 * seconds(piece, 10_000) + 0.1  # squared, it takes 16 times


@pytest.mark.parametrize("start", ["&#", "&#x", "&"])
def test_entity_of_thousands_of_digits_is_text(start):
    found = clean(f"a cat {start}{'1' * 5_000}; b")
    assert found.startswith("a cat") and found.endswith("b")


@pytest.mark.parametrize("text", ["", "a cat", "Ünïcödé ß", "ＦＵＬＬ ﬁ", "12 😀", "Hawaiʻi", "5º"])
def test_latin_text_is_known(text):
    assert is_latin(text)


@pytest.mark.parametrize("text", ["a 猫", "ねこ", "Привет", "α", "مرحبا", "हि", "한", "ﾈｺ"])
def test_other_scripts_are_known(text):
    assert not is_latin(text)
