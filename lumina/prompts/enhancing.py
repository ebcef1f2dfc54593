"""The few-shot text from which a language model writes a long prompt for a short one.

google/gemma-2b is not a chat model: it continues the text that it reads. So the text has short
captions with their long versions, and the line that the model adds is the answer.
"""

EXAMPLES = {
    "a cat on a window sill": "A close-up photograph of a gray tabby cat lying on a white wooden "
    "window sill. Soft morning light falls through the glass on its striped fur and its long "
    "white whiskers. Its green eyes look out at a blurred garden, and a small clay pot with a fern "
    "stands beside it. The colors are muted and the mood is quiet.",
    "old ship in a storm, oil painting": "An oil painting of an old three-masted ship in a storm "
    "at sea. The ship leans to the left while dark green waves with white foam break over its bow, "
    "and its torn brown sails swell in the wind. Behind it the heavy clouds part, and a narrow "
    "beam of yellow light falls on the water. Thick brush strokes give the waves weight.",
    "girl with umbrella, anime": "An anime illustration of a young girl with short black hair who "
    "stands on a city street at night under a clear plastic umbrella. She wears a yellow raincoat "
    "and red boots, and looks up into the rain with a small smile. Pink and blue neon signs are "
    "mirrored in the wet pavement, and the people far behind her are soft gray shapes.",
}


def few_shot(prompt: str) -> str:
    """A text that ends where the long version of `prompt` begins; `prompt` is put on one line."""
    pairs = [*EXAMPLES.items(), (" ".join(prompt.split()), "")]
    examples = [f"Short caption: {short}\nLong caption: {long}" for short, long in pairs]
    # No space at the end: the tokenizer puts it into the token of the next word.
    return (
        "Short captions of pictures, and the same at length.\n\n" + "\n\n".join(examples).rstrip()
    )
