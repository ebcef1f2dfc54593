"""The debris of the web out of a prompt, as diffusers' LuminaPipeline takes it out.

Lumina-Next was trained on captions as they are. Cleaning is for text pasted from the web, and for
the pictures of that pipeline, which cleans positive prompts. It gives the pipeline's text, but
leaves what a prompt may hold here: letters of every script, weights as in `(red:1.3)`, escaped
parentheses and `embedding:name`. Of an address or of escaped HTML, of which the pipeline leaves
pieces, nothing is left.
"""

import html
import re
import unicodedata
from html.entities import html5
from urllib.parse import unquote

OFF, LATIN, ALL = CLEANING = ("off", "Latin text", "all")


def is_latin(text: str) -> bool:
    """Whether every letter is a Latin one, with or without accents. True without any letter."""
    letters = filter(str.isalpha, unicodedata.normalize("NFKC", text))
    names = (unicodedata.name(c, "") for c in letters if unicodedata.category(c) != "Lm")
    return all(name.startswith("LATIN") for name in names)


def clean(text: str) -> str:
    """`text` in lower case and without web addresses, HTML, file names, product codes and so on.

    What is left may be empty. Parentheses, the weights in them and embeddings stay as they are.
    """
    for _ in range(2):  # as in diffusers: a pass may lay bare what the next one finds
        text = _clean_once(text)
    return text


def _clean_once(text: str) -> str:
    text = text.replace(MARK, "")
    kept = iter(SYNTAX.findall(text))
    text = _decode_percent(SYNTAX.sub(MARK, text)).strip().lower()
    text = _decode_entities(_apply(ADDRESSES, text))
    text = _plain_characters(_apply(TAGS, text))
    text = _apply(DEBRIS, text)
    if len(re.findall("[-_]", text)) > 3:
        text = re.sub("[-_]", " ", text)
    text = _apply(PHRASES + ENDS, text)
    text = re.sub(MARK, lambda _: next(kept), text)
    return EMPTY_GROUP.sub("", text).strip()


# --- what stays

# Parentheses, escaped or not, the weight before a closing one, and an embedding at a word's start.
# While the rest is cleaned, MARK stands in their places: no character of any text.
WEIGHT = r"(?::\s*[-+]?[\d.]+(?:e[-+]?\d+)?\s*)?"
SYNTAX = re.compile(
    rf"\\[()]|\(|{WEIGHT}\)|(?<![^\s()])embedding:(?:(?!{WEIGHT}\))(?:\\.|[^\s()<\[]))+"
)
MARK = "\ufdd0"
EMPTY_GROUP = re.compile(rf"(?<!\\)\(\s*{WEIGHT}\)")  # "(:1.3)" would be read as the text ":1.3"


# --- what goes, in this order

LATIN_CHARACTER = r"[!-~\u00a1-\u024f]"  # no other letters: their words are not set off by spaces
LATIN_WORD = r"[a-z0-9_\u00c0-\u024f]"
FILE_TYPES = r"(?:png|jpe?g|bmp|webp|eps|pdf|apk|mp4)"


def _rules(*rules: tuple[str, str]) -> tuple[tuple[re.Pattern, str], ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rules)


def _apply(rules: tuple[tuple[re.Pattern, str], ...], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _decode_percent(text: str) -> str:
    """%20 and + as in addresses; a text where percent signs are just that keeps them."""
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


def _decode_entities(text: str) -> str:
    """&quot; &#39; &nbsp and the like as what they stand for, also where & was one itself."""

    def character(found: re.Match) -> str:
        name = found[1]
        return html.unescape(f"&{name};") if name[0] == "#" else html5.get(f"{name};", found[0])

    for _ in range(2):
        text = re.sub(r"&(#?[a-z0-9]+);?", character, text)
    return text


TAGS = _rules(
    ("<person>", "person"),  # as some data sets write it
    (rf"<(script|style)\b(?:(?!<\1)[^{MARK}])*?</\1>", ""),
    (rf"<!--(?:(?!<!--)[^{MARK}])*?-->|</?[!?]?[a-z][^<>{MARK}]*>", ""),
)


def _plain_characters(text: str) -> str:
    """Accents composed, full-width forms and ligatures as plain letters, no control characters."""
    text = re.sub(r"[\x00-\x08\x0e-\x1b\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]", "", text)
    wide = re.compile(r"[\uff01-\uffef\ufb00-\ufb06]")
    text = wide.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return unicodedata.normalize("NFC", text)


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
    (r"\s+\.\s+", " "),
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
