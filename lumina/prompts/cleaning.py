"""Removes web addresses, HTML and other debris from a prompt, as diffusers' LuminaPipeline does.

Lumina-Next was trained on captions as they are. Cleaning is for text pasted from the web, and for
pictures made with that pipeline, which cleans positive prompts. The text is the pipeline's, with
two differences. Letters of every script stay, and so does prompt syntax: weights as in `(red:1.3)`,
escaped parentheses, `embedding:name`. Addresses and escaped HTML disappear completely; the pipeline
leaves pieces of them.
"""

import html
import re
import unicodedata
from html.entities import html5
from typing import Literal
from urllib.parse import unquote

OFF, LATIN, ALL = CLEANING = ("off", "Latin text", "all")


def is_latin(text: str) -> bool:
    """Whether all letters are Latin, with or without accents. True for a text without letters."""
    letters = filter(str.isalpha, _normalized("NFKC", text))
    names = (unicodedata.name(c, "") for c in letters if unicodedata.category(c) != "Lm")
    return all(name.startswith("LATIN") for name in names)


def clean(text: str) -> str:
    """`text` in lower case and without web addresses, HTML, file names, product codes and so on.

    May return "". Parentheses, the weights in them and embeddings stay as they are. Takes time in
    proportion to the length of the text, whatever is in it.
    """
    for _ in range(2):  # as in diffusers: the first pass may expose matches for the second
        text = _clean_once(text)
    return text


def _clean_once(text: str) -> str:
    text = TAG_WITH_PARENTHESES.sub("", text.replace(MARK, ""))
    syntax = iter(SYNTAX.findall(text))
    text = _decode_percent(SYNTAX.sub(MARK, text)).strip().lower()
    text = _decode_entities(_apply(ADDRESSES, text))
    text = _plain_characters(_apply(TAGS, text))
    text = _apply(DEBRIS, text)
    if len(re.findall("[-_]", text)) > 3:
        text = re.sub("[-_]", " ", text)
    text = _apply(PHRASES + ENDS, text)
    text = re.sub(MARK, lambda _: next(syntax), text)
    return EMPTY_GROUP.sub("", text).strip()


# Prompt syntax, which stays: parentheses, escaped or not, the weight before a closing one, and an
# embedding at the start of a word. MARK replaces them while the rest is cleaned; it is a Unicode
# noncharacter, which no text contains.
WEIGHT = r"(?::\s*[-+]?[\d.]+(?:e[-+]?\d+)?\s*)?"
SYNTAX = re.compile(
    rf"\\[()]|\(|{WEIGHT}\)|(?<![^\s()])embedding:(?:(?!{WEIGHT}\))(?:\\.|[^\s()<\[]))+"
)
MARK = "\ufdd0"
# Before the syntax is marked: parentheses inside of a tag, as in style="color: rgb(1,2,3)", are
# none of a prompt's.
QUOTED = "\"[^\"<>]*\"|'[^'<>]*'"
TAG_WITH_PARENTHESES = re.compile(rf"(?i)<[a-z][^<>\"'()]*(?:(?:{QUOTED})[^<>\"'()]*)+>")
EMPTY_GROUP = re.compile(
    rf"(?<!\\)\(\s*{WEIGHT}\)"
)  # the host would read "(:1.3)" as the text ":1.3"


# The replacements, in the order of their use.

LATIN_CHARACTER = r"[!-~\u00a1-\u024f]"  # other scripts may not separate words by spaces
LATIN_WORD = r"[a-z0-9_\u00c0-\u024f]"
FILE_TYPES = r"(?:png|jpe?g|bmp|webp|eps|pdf|apk|mp4)"


def _rules(*rules: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rules)


def _apply(rules: tuple[tuple[re.Pattern[str], str], ...], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _decode_percent(text: str) -> str:
    """Decodes + and %20 as in addresses; only + where the percent signs are not codes of UTF-8."""
    decoded = unquote(text.replace("+", " "))
    return text.replace("+", " ") if "\ufffd" in decoded else decoded


ADDRESSES = _rules(
    (r"\b(?:https?:/+|www\.)[!#-;=?-~]*[a-z0-9_/]", ""),
    (
        r"(?<![a-z0-9.-])[.-]*\b[a-z0-9][a-z0-9.-]*"
        r"\.(?:com|co|ru|net|org|edu|gov|it)(?:\.[a-z]{2})?\b"
        r"(?:[/:?#][!#-;=?-~]*[a-z0-9_/])?",
        "",
    ),
)


LONGEST_ENTITY = max(map(len, html5))  # Python refuses numbers of thousands of digits


def _decode_entities(text: str) -> str:
    """Decodes HTML entities such as &quot; &#39; &nbsp, also those whose & is an entity itself."""

    def character(match: re.Match[str]) -> str:
        name = match[1]
        if len(name) > LONGEST_ENTITY:
            return match[0]
        return html.unescape(f"&{name};") if name[0] == "#" else html5.get(f"{name};", match[0])

    for _ in range(2):
        text = re.sub(r"&(#?[a-z0-9]+);?", character, text)
    return text


TAGS = _rules(
    ("<person>", "person"),  # a placeholder of some data sets
    (rf"<(script|style)\b(?:(?!<\1)[^{MARK}])*?</\1>", ""),
    (rf"<!--(?:(?!<!--)[^{MARK}])*?-->|</?[!?]?[a-z][^<>{MARK}]*>", ""),
)


def _plain_characters(text: str) -> str:
    """Composes accents, makes full-width forms and ligatures plain, drops control characters."""
    text = re.sub(r"[\x00-\x08\x0e-\x1b\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]", "", text)
    wide = re.compile(r"[\uff01-\uffef\ufb00-\ufb06]")
    text = wide.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return _normalized("NFC", text)


MOST_MARKS = 30  # on one letter, by Unicode's Stream-Safe Text Format; no language has as many


def _normalized(form: Literal["NFC", "NFKC"], text: str) -> str:
    """`text` in a normal form, in parts: time grows with the square of the marks on one letter."""
    if text.isascii():
        return text
    ends, marks = [0], 0
    for end, character in enumerate(text, start=1):
        marks = marks + 1 if unicodedata.category(character) in MARKS else 0
        if marks == MOST_MARKS:
            ends.append(end)
            marks = 0
    parts = zip(ends, [*ends[1:], len(text)], strict=True)
    return "".join(unicodedata.normalize(form, text[begin:end]) for begin, end in parts)


MARKS = {"Mn", "Mc", "Me", "Lm"}  # the last for half-width kana's, which become marks


DEBRIS = _rules(
    (rf"@{LATIN_WORD}*", ""),
    (r"[\u2010-\u2015\u2500\ufe31\ufe32\ufe58\ufe63-]+", "-"),
    (r"[`\u00a8\u00ab\u00b4\u00bb\u201c-\u201f]", '"'),
    (r"[\u2018-\u201b]", "'"),
    (r"\d{1,3}(?:\.\d{1,3}){3}", " "),  # IP addresses
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),
    (r"#\d{1,3}\b|#\d{5,}\b|\b\d{6,}\b", ""),
    (rf"(?<!{LATIN_CHARACTER}){LATIN_CHARACTER}+\.{FILE_TYPES}", ""),
    (r"[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (r"[#&@~|\\/*()\[\]{}\u00a1\u00a7\u00a9\u00ae\u00b7\u00bd-\u00bf\u2022\u2122]+", " "),
    (r"(?<!\s)\s+\.\s+", " "),  # from where the spaces begin, not once more from each of them
)

PHRASES = _rules(
    # Product codes: a1b2c3 leaves a space; jc6640vc, 6640vc231 and jc6640 do not.
    (r"\b\d*(?:[a-z]+\d+){2,}[a-z]*\b", " "),
    (r"\b(?:[a-z]+\d+[a-z]+|\d+[a-z]+\d+|[a-z]{1,3}\d{3,15})\b", ""),
    (r"worldwide\s+free\s+shipping|(?:free\s)?(?:shipping|download(?:\sfree)?)", ""),
    (rf"\bclick\s(?:for|on)\s{LATIN_WORD}+|\b{FILE_TYPES}(?:\simages?)?", ""),
    (r"\b(?:page\s+\d+|\d+[x\u0445\u00d7]\d+)\b", ""),  # page 3, 120x240, Cyrillic x too
    (r"(?<=\w)\s+:\s+", ": "),
    (r"(?<=\D[,./])(?=\w)", " "),
    (r"\s+", " "),
)

ENDS = _rules(
    (r"^[\"'](.*)[\"']$", r"\1"),
    (r"^[-'_,:;]|[-'_,:]$", ""),
    (r"^\.[!-~]+$", ""),
)
