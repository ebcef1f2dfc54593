"""Templates around prompts, and a prompt's way to the encoder: split, cleaned, put into a template.

By default nothing changes: Lumina-Next was trained on captions as they are, and the released code
encodes prompts as they are.
"""

from dataclasses import dataclass

from .cleaning import LATIN, OFF, clean, is_latin

PLACEHOLDER = "{prompt}"
UNCHANGED = PLACEHOLDER
SHOWN = 80  # characters of a prompt in a message
# The system prompts of Lumina-Image 2.0, letter for letter as in its training.
TEMPLATES = {
    "superior": "You are an assistant designed to generate superior images with the superior "
    "degree of image-text alignment based on textual prompts or user prompts. <Prompt Start> "
    + PLACEHOLDER,
    "alignment": "You are an assistant designed to generate high-quality images with the highest "
    "degree of image-text alignment based on textual prompts. <Prompt Start> " + PLACEHOLDER,
}

NONE, CUSTOM = "none", "custom"
CHOICES = (NONE, *TEMPLATES, CUSTOM)


@dataclass(frozen=True)
class Prompt:
    """A text to encode. note: what cleaning changed, for the user; "" for nothing."""

    text: str
    note: str = ""


def split(text: str, one_per_line: bool) -> list[str]:
    """The text as one prompt, or each line that is not blank as one; at least one, perhaps ""."""
    if not one_per_line:
        return [text]
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line] or [""]


def prepared(text: str, template: str = UNCHANGED, cleaning: str = OFF) -> Prompt:
    """`text`, cleaned if `cleaning` says so, inside `template`. Raises ValueError as `fill` does.

    cleaning: one of CLEANING; "Latin text" leaves prompts in other scripts as they are.
    """
    if cleaning == OFF or (cleaning == LATIN and not is_latin(text)):
        return Prompt(fill(template, text))
    cleaned = clean(text)
    note = f'cleaned to "{beginning(cleaned)}"' if cleaned else "cleaning left nothing of it"
    return Prompt(fill(template, cleaned), note if cleaned != text else "")


def chosen_template(choice: str, text: str = UNCHANGED) -> str:
    """The template of one of CHOICES; `text` is that of the user's own."""
    return {NONE: UNCHANGED, CUSTOM: text, **TEMPLATES}[choice]


def fill(template: str, prompt: str) -> str:
    """`template` with every {prompt} replaced by `prompt`; other braces are text.

    Raises ValueError for a template without {prompt}.
    """
    if PLACEHOLDER not in template:
        raise ValueError(
            f"The template has no {PLACEHOLDER}, so the prompt would be lost. Write {PLACEHOLDER} "
            f'where it belongs, as in "An oil painting of {PLACEHOLDER}".'
        )
    return template.replace(PLACEHOLDER, prompt)


def beginning(text: str) -> str:
    """The first SHOWN characters of `text`, on one line, for a message."""
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[:SHOWN].rstrip() + " ..."
