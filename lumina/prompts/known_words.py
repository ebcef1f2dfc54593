"""Words that a text encoder was trained on, where they are so few that a prompt must keep to them.

Its config.json says so: {"known_words": {"model": "The demo model", "words": ["a", "red", ...]}}.
"""

import re
from dataclasses import dataclass

from ..checkpoints.config_json import ConfigJson, group

KEY = "known_words"
MOST_NAMED = 8
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True)
class KnownWords:
    """model: what a sentence calls it. words: in lower case, in the order in which to list them."""

    model: str
    words: tuple[str, ...]

    @classmethod
    def from_config(cls, config_json: ConfigJson, source: str) -> "KnownWords | None":
        """What a config.json says; None if it says nothing, as for every large text encoder.

        Raises ValueError naming `source` where it says something else.
        """
        if KEY not in config_json:
            return None
        entry = group(config_json, KEY)
        model, words = entry.get("model"), entry.get("words")
        texts = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
        if not isinstance(model, str) or not texts or texts != words:
            raise ValueError(
                f'"{KEY}" in the config.json of {source} must be an object with a text "model" and '
                'a list of texts "words". Take it out, or download the file again.'
            )
        return cls(model, tuple(texts))

    def to_config(self) -> dict[str, object]:
        """The config.json that `from_config` reads."""
        return {KEY: {"model": self.model, "words": list(self.words)}}

    def explain_unknown(self, text: str) -> str | None:
        """Which words of `text` are not among these; None if all are.

        Such as "The demo model does not know: cat, hat. It knows: a, red, star."
        """
        words = dict.fromkeys(word.lower() for word in _WORD.findall(text))
        unknown = [word for word in words if word not in self.words]
        if not unknown:
            return None
        if len(unknown) > MOST_NAMED:
            unknown[MOST_NAMED:] = [f"and {len(unknown) - MOST_NAMED} more"]
        named, known = ", ".join(unknown), ", ".join(self.words)
        return f"{self.model} does not know: {named}. It knows: {known}."
