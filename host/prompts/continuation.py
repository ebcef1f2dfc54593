"""Prompts that the language model is to continue, for the host's "Generate Text".

Which tokens end the text travels with the prompt's tokens, under STOPS after the encoder's entry,
so that no object has to remember its last prompt.
"""

from ...lumina.prompts.enhancing import few_shot
from ...lumina.text_encoders.generation import stop_tokens
from ..notices import warn

STOPS = "stop_tokens"
NOT_READ = ("image", "images", "video", "audio", "system_prompt")


class PromptsToContinue:
    """A mixin put before SD1Tokenizer: tokens of a prompt to continue, the text of those written.

    The tokens are asked for by the argument skip_template, which only "Generate Text" gives. Such a
    prompt is plain text of any length: parentheses are no weights, `embedding:` is no file.
    """

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **kwargs: object
    ) -> dict[str, object]:
        if "skip_template" not in kwargs:
            return super().tokenize_with_weights(text, return_word_ids, **kwargs)
        unused = [name for name in NOT_READ if _is_given(kwargs.get(name))]
        if unused:
            warn(f"This language model only reads the prompt: {' and '.join(unused)} not used.")
        with_template = not kwargs["skip_template"]
        ids = self.inner.to_continue(few_shot(text) if with_template else text)
        end = self.inner.tokenizer.end
        stops = stop_tokens(self.inner.inv_vocab, end, at_line_end=with_template)
        return {self.clip_name: [[(number, 1.0) for number in ids]], STOPS: stops}

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        # A model may have more embeddings than its tokenizer has pieces, as fine-tunes do.
        known = [number for number in token_ids if number in self.inner.inv_vocab]
        return super().decode(known, skip_special_tokens=skip_special_tokens).strip()


def _is_given(value: object) -> bool:
    return value is not None and not (isinstance(value, str) and not value)
