"""Prompts before they are tokens: templates around them, and the debris of the web out of them.

Lumina-Next was trained on captions as they are, and the released code encodes prompts as they are.
`clean` is for text pasted from the web, and for the pictures of diffusers' LuminaPipeline, which
cleans positive prompts. It gives that pipeline's text, but leaves what a prompt may hold here:
letters of every script, weights as in `(red:1.3)`, escaped parentheses and `embedding:name`. Of an
address or of escaped HTML, of which that one leaves pieces, nothing is left.
"""

from dataclasses import dataclass

from .cleaning import LATIN, OFF, clean, is_latin

PLACE = "{prompt}"
UNCHANGED = PLACE
SHOWN = 80  # characters of a prompt in a message
# The system prompts of Lumina-Image 2.0, letter for letter as in its training.
TEMPLATES = {
    "superior": "You are an assistant designed to generate superior images with the superior "
    "degree of image-text alignment based on textual prompts or user prompts. <Prompt Start> "
    + PLACE,
    "alignment": "You are an assistant designed to generate high-quality images with the highest "
    "degree of image-text alignment based on textual prompts. <Prompt Start> " + PLACE,
}


@dataclass(frozen=True)
class Prompt:
    """A text to encode, and a word on what became of the one that was written, if any."""

    text: str
    note: str = ""


def split(text: str, *, one_per_line: bool) -> list[str]:
    """The whole text as one prompt, or each of its lines that is not blank; never none."""
    if not one_per_line:
        return [text]
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line] or [""]


def prepared(text: str, template: str = UNCHANGED, cleaning: str = OFF) -> Prompt:
    """`text` cleaned as one of CLEANING says, and then put into `template`.

    "Latin text" leaves prompts in other scripts alone. Raises ValueError as `fill` does.
    """
    if cleaning == OFF or (cleaning == LATIN and not is_latin(text)):
        return Prompt(fill(template, text))
    left = clean(text)
    note = f'cleaned to "{beginning(left)}"' if left else "cleaning left nothing of it"
    return Prompt(fill(template, left), note if left != text else "")


def fill(template: str, prompt: str) -> str:
    """`template` with `prompt` wherever it says {prompt}; other braces are text.

    Raises ValueError for a template that has no place for it.
    """
    if PLACE not in template:
        raise ValueError(
            f"The template has no {PLACE}, so the prompt would be lost. Write {PLACE} where it "
            f'belongs, as in "An oil painting of {PLACE}".'
        )
    return template.replace(PLACE, prompt)


def beginning(text: str) -> str:
    """`text` on one line and short enough to be shown."""
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[:SHOWN].rstrip() + " ..."
