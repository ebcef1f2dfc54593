"""Text by the language model that the text encoder is, through the host's "Generate Text".

Two mixins, each put before a class of the host's: `PromptsToContinue` before SD1Tokenizer,
`WritesText` before SDClipModel. Which tokens end a text travels with the prompt's tokens, under
STOPS after the encoder's entry, so that no object has to remember its last prompt.
"""

from collections.abc import Mapping

import comfy.model_management
import comfy.utils

from ...lumina.prompts.enhancing import few_shot
from ...lumina.text_encoders.decoder import Decoder
from ...lumina.text_encoders.generation import Sampling, stop_tokens, write
from ..notices import warn

STOPS = "stop_tokens"


class PromptsToContinue:
    """Tokens of a prompt that is to be continued, and the text of those that were written.

    They are asked for by the argument skip_template, which only "Generate Text" gives. Such a
    prompt is plain text of any length: parentheses are no weights, `embedding:` is no file.
    """

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **kwargs: object
    ) -> dict[str, object]:
        if "skip_template" not in kwargs:
            return super().tokenize_with_weights(text, return_word_ids, **kwargs)
        unused = [name for name in ("image", "video", "audio") if kwargs.get(name) is not None]
        if unused:
            warn(f"This language model only reads text: {' and '.join(unused)} not used.")
        with_template = not kwargs["skip_template"]
        ids = self.inner.to_continue(few_shot(text) if with_template else text)
        end = self.inner.tokenizer.end
        stops = stop_tokens(self.inner.inv_vocab, end, at_line_end=with_template)
        return {self.clip_name: [[(number, 1.0) for number in ids]], STOPS: stops}

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        # A model may have more embeddings than its tokenizer has pieces, as fine-tunes do.
        known = [number for number in token_ids if number in self.inner.inv_vocab]
        return super().decode(known, skip_special_tokens=skip_special_tokens).strip()


class WritesText:
    """Lets an SDClipModel write whose transformer holds a `Decoder` as `model`."""

    def generate(
        self,
        tokens: Mapping[str, object],
        do_sample: bool,
        max_length: int,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repetition_penalty: float,
        seed: int | None,
        presence_penalty: float = 0.0,
    ) -> list[int]:
        """The tokens that follow the first entry of `tokens`, none of its STOPS among them.

        do_sample off takes the likeliest token each time. max_length is in tokens and bounds what
        is written; the other arguments are `Sampling`'s. Each of the host's layers looks whether
        the user canceled, so there is no need to here.
        """
        decoder = getattr(self.transformer, "model", None)
        if not isinstance(decoder, Decoder):
            raise ValueError(
                "This text encoder reads prompts but cannot write. Load Gemma-2B or LLaMA-2 with "
                '"Load Lumina-Next Text Encoder" and connect that to "Generate Text".'
            )
        sampling = Sampling(
            temperature if do_sample else 0.0,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            presence_penalty,
        )
        (prompt,) = next(iter(tokens.values()))
        embeds = self.process_tokens([[entry[0] for entry in prompt]], self.execution_device)[0]
        if comfy.model_management.should_use_bf16(embeds.device):
            embeds = embeds.bfloat16()
        written = []
        progress = comfy.utils.ProgressBar(max_length)
        for token in write(
            decoder,
            embeds,
            sampling,
            max_tokens=max_length,
            stops=tokens.get(STOPS, ()),
            seed=seed,
        ):
            written.append(token)
            progress.update(1)
        return written
