"""How each family of text encoders tokenizes a prompt, and which hidden state is its features.

Gemma and LLaMA-2 follow the released code (Lumina-T2X, lumina_next_t2i/demo.py and
lumina_t2i/demo.py), T5 follows its own tokenizer. A Lumina-Next caption is at most 256 Gemma
tokens: begin-of-sequence, then text, no end token, padded on the right. Its features are the last
hidden state but one, without the final norm.
"""

from dataclasses import dataclass

MAX_TOKENS = 256
HIDDEN_STATE = -2


@dataclass(frozen=True)
class PromptFormat:
    """How one text encoder gets from a prompt to its features.

    name: of the encoder inside a CLIP, and the prefix of its weights in files that the host saves.
    begin, end, pad: token ids; begin, unless None, precedes every prompt. limit: tokens read, begin
    and end included. hidden_state: numbered as transformers' `hidden_states`. published_as: the
    model that has the right tokenizer_file. has_fixed_tokens: whether another begin or end token
    means another model's tokenizer.
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
    has_fixed_tokens: bool = True

    @property
    def special_tokens(self) -> dict[str, int]:
        """For the host's SDClipModel: tokens of an empty prompt; end, or else pad, ends a mask."""
        tokens = {"start": self.begin, "end": self.end if self.adds_end else None, "pad": self.pad}
        return {name: token for name, token in tokens.items() if token is not None}


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
        limit=4096,  # the released code never cuts; LLaMA-2 was trained on 4096 positions
        hidden_state=-1,
        published_as="meta-llama/Llama-2-7b-hf",
    ),
    "t5": PromptFormat(
        name="t5",
        begin=None,
        end=1,
        pad=0,
        adds_end=True,
        limit=512,  # it was trained on 512
        hidden_state=-1,
        published_as="google/t5-v1_1-xxl",
        tokenizer_file="spiece.model",
    ),
}
