"""Text by the language model that the text encoder is, through the host's "Generate Text"."""

from collections.abc import Mapping

import comfy.model_management
import comfy.utils

from ...lumina.text_encoders.decoder import Decoder
from ...lumina.text_encoders.generation import Sampling, write
from ..notices import warn
from ..prompts.continuation import STOPS

FOR_SPEED = ("mtp",)  # several tokens predicted at once, to the same text


class WritesText:
    """A mixin put before SDClipModel: it writes if its transformer holds a `Decoder` as `model`."""

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
        **unknown: object,
    ) -> list[int]:
        """The tokens that follow the first entry of `tokens`, none of its STOPS among them.

        do_sample off takes the likeliest token each time. max_length is in tokens and bounds what
        is written; the other arguments are `Sampling`'s. Newer hosts have more, which are not used.
        Each of the host's layers looks whether the user canceled, so there is no need to here.
        """
        unused = [name for name, value in unknown.items() if value and name not in FOR_SPEED]
        if unused:
            warn(f"This language model writes the same with or without {' and '.join(unused)}.")
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
