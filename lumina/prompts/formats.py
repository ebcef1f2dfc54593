"""How each family of text encoders reads a prompt, and what of it the diffusion model is given.

One table: the released code's ways for Gemma (lumina_next_t2i/demo.py) and LLaMA-2
(lumina_t2i/demo.py), both of Lumina-T2X, and for T5 those of its own tokenizer.
"""

from dataclasses import dataclass

MAX_TOKENS = 256
HIDDEN_STATE = -2


@dataclass(frozen=True)
class PromptFormat:
    """From a prompt to its features.

    name: of the encoder inside a CLIP, and before its weights in files that the host saves. begin,
    end, pad: tokens of its vocabulary; a begin token goes before a prompt wherever there is one.
    limit: how many tokens are read, begin and end included. hidden_state: numbered as
    transformers' `hidden_states`. published_as: a model whose tokenizer_file is the right one.
    are_fixed: whether a tokenizer with another begin or end token is another model's.
    """

    name: str
    begin: int | None
    end: int | None
    pad: int
    adds_end: bool
    limit: int
    hidden_state: int
    published_as: str
    tokenizer_file: str = "tokenizer.model"
    are_fixed: bool = True

    @property
    def special_tokens(self) -> dict[str, int]:
        """What the host's SDClipModel puts around an empty prompt, and masks by."""
        ends = {"start": self.begin, "end": self.end if self.adds_end else None, "pad": self.pad}
        return {place: token for place, token in ends.items() if token is not None}


PROMPT_FORMATS = {
    "gemma": PromptFormat(
        name="gemma_2b",
        begin=2,
        end=1,
        pad=0,
        adds_end=False,
        limit=MAX_TOKENS,
        hidden_state=HIDDEN_STATE,
        published_as="google/gemma-2b",
    ),
    "llama": PromptFormat(
        name="llama_2",
        begin=1,
        end=2,
        pad=0,
        adds_end=True,
        limit=4096,  # the released code never cuts; this is how many positions LLaMA-2 knows
        hidden_state=-1,
        published_as="meta-llama/Llama-2-7b-hf",
    ),
    "t5": PromptFormat(
        name="t5",
        begin=None,
        end=1,
        pad=0,
        adds_end=True,
        limit=512,  # as many as it was trained on
        hidden_state=-1,
        published_as="google/t5-v1_1-xxl",
        tokenizer_file="spiece.model",
    ),
}
