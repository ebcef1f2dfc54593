"""Gemma's tokenizer, in whichever form travels with the weights.

A SentencePiece model (`tokenizer.model`, or the tensor `spiece_model` inside a weights file) or the
same vocabulary as Hugging Face's `tokenizer.json`. Captions follow the released code: begin token,
text, no end token, at most 256 tokens in all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import comfy.sd1_clip
import tokenizers
import torch
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer
from torch import Tensor

from ..lumina.prompt import MAX_TOKENS
from .notices import warn

NAME = "gemma_2b"
BEGIN, PAD = 2, 0
UNLIMITED = 99_999_999
_SPACE_BEFORE_GROUP = re.compile(r"(?<!\s)(\s+)(\(+)")


class Tokens(Protocol):
    """A tokenizer as the host's SDTokenizer uses one, and as a checkpoint stores it."""

    size: int

    def __call__(self, text: str) -> dict[str, list[int]]: ...
    def get_vocab(self) -> dict[str, int]: ...
    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str: ...
    def state_dict(self) -> dict[str, Tensor]: ...


class SentencePieceTokens(SPieceTokenizer):
    """Tokens of a serialized SentencePiece model: the host's tokenizer, begin token first."""

    def __init__(self, model: bytes) -> None:
        super().__init__(model, add_bos=True, add_eos=False)

    @property
    def size(self) -> int:
        return self.tokenizer.get_piece_size()

    @property
    def begin(self) -> int:
        return self.tokenizer.bos_id()

    def state_dict(self) -> dict[str, Tensor]:
        return {"spiece_model": self.serialize_model()}


@dataclass(frozen=True)
class JsonTokens:
    """Tokens of a Hugging Face `tokenizer.json`."""

    model: bytes

    @cached_property
    def processor(self) -> tokenizers.Tokenizer:
        processor = tokenizers.Tokenizer.from_buffer(self.model)
        processor.no_truncation()
        processor.no_padding()
        return processor

    @property
    def size(self) -> int:
        return self.processor.get_vocab_size()

    @property
    def begin(self) -> int | None:
        return self.processor.token_to_id("<bos>")

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {
            "input_ids": [self.begin, *self.processor.encode(text, add_special_tokens=False).ids]
        }

    def get_vocab(self) -> dict[str, int]:
        return self.processor.get_vocab()

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        return self.processor.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def state_dict(self) -> dict[str, Tensor]:
        return {"tokenizer_json": torch.frombuffer(bytearray(self.model), dtype=torch.uint8)}


FORMS = {"spiece_model": SentencePieceTokens, "tokenizer_json": JsonTokens}
FILES = {"tokenizer.model": SentencePieceTokens, "tokenizer.json": JsonTokens}


def open_tokenizer(file: Path, weights: Mapping[str, Tensor], vocabulary: int) -> Tokens:
    """The tokenizer inside the weights of `file`, or the file of one beside it.

    Raises ValueError if there is none, if it is not Gemma's, or if it knows more tokens than the
    `vocabulary` that the model has embeddings for; the text says which file to put where.
    """
    form, model, source = _find(file, weights)
    try:
        tokens = form(model)
        begin, size = tokens.begin, tokens.size
    except Exception as error:  # both libraries raise bare exceptions for bytes they cannot read
        raise ValueError(
            f"{source} cannot be read as a tokenizer: {error}. Download it again."
        ) from error
    if begin != BEGIN:
        raise ValueError(
            f"{source} is not Gemma's tokenizer: its begin token is {begin}, not {BEGIN}. Use the "
            "tokenizer.model or tokenizer.json of google/gemma-2b."
        )
    if size > vocabulary:
        raise ValueError(
            f"{source} knows {size:,} tokens, but {file.name} has embeddings for {vocabulary:,}: "
            "they belong to different models. Use the tokenizer that came with the weights."
        )
    return tokens


def _find(file: Path, weights: Mapping[str, Tensor]) -> tuple[type[Tokens], bytes, str]:
    for key, form in FORMS.items():
        if key in weights:
            return form, weights[key].numpy().tobytes(), f'"{key}" in {file.name}'
    for candidate, form in _candidates(file):
        if candidate.is_file():
            return form, candidate.read_bytes(), candidate.name
    raise ValueError(
        f"{file.name} comes without a tokenizer. Put tokenizer.model (4 MB) or tokenizer.json of "
        f"google/gemma-2b beside it, into {file.parent.name}; where other models live there too, "
        f"call it {file.stem}.tokenizer.model or {file.stem}.tokenizer.json."
    )


def _candidates(file: Path) -> list[tuple[Path, type[Tokens]]]:
    # A file's own tokenizer first: its folder may hold the text encoders of several models.
    own = [(file.with_name(f"{file.stem}.{name}"), form) for name, form in FILES.items()]
    folders = [file.parent, file.parent.parent / "tokenizer"]  # the latter in a diffusers pipeline
    return own + [(folder / name, form) for folder in folders for name, form in FILES.items()]


class GemmaTokenizer(comfy.sd1_clip.SDTokenizer):
    """Prompts, with the host's weights and embeddings, as Gemma's tokens.

    tokenizer_data: {"tokens": Tokens, "width": features of an embedding}.
    """

    def __init__(
        self,
        embedding_directory: str | list[str] | None = None,
        tokenizer_data: Mapping[str, object] | None = None,
    ) -> None:
        tokenizer_data = tokenizer_data or {}
        super().__init__(
            tokenizer_data["tokens"],
            tokenizer_class=SimpleNamespace(from_pretrained=lambda tokens: tokens),
            embedding_directory=embedding_directory,
            embedding_size=tokenizer_data["width"],
            embedding_key=NAME,
            has_end_token=False,
            pad_with_end=False,
            pad_token=PAD,
            pad_to_max_length=False,
            # The host would split longer prompts, and fail where the parts differ in length.
            max_length=UNLIMITED,
            min_length=1,
            tokenizer_data=tokenizer_data,
        )

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **kwargs: object
    ) -> list[list[tuple]]:
        """(token, weight[, word]) of each token, cut after 256 as in training, with a warning."""
        # The host tokenizes "a ", "red", " cat" of "a (red:1.3) cat" one by one, and in Gemma's
        # vocabulary a space belongs to the word after it: inside, "red" stays the same token.
        text = _SPACE_BEFORE_GROUP.sub(r"\2\1", text)
        batches = super().tokenize_with_weights(text, return_word_ids, **kwargs)
        for batch in batches:
            if len(batch) > MAX_TOKENS:
                warn(
                    f"The prompt has {len(batch)} tokens, Lumina-Next reads {MAX_TOKENS}: "
                    f"the last {len(batch) - MAX_TOKENS} were cut off."
                )
        return [batch[:MAX_TOKENS] for batch in batches]

    def state_dict(self) -> dict[str, Tensor]:
        """What a saved checkpoint needs to tokenize again."""
        return self.tokenizer.state_dict()


class HostTokenizer(comfy.sd1_clip.SD1Tokenizer):
    """The one-encoder tokenizer that CLIP objects hold."""

    def __init__(
        self,
        embedding_directory: str | list[str] | None = None,
        tokenizer_data: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(
            embedding_directory=embedding_directory,
            tokenizer_data=tokenizer_data or {},
            tokenizer=GemmaTokenizer,
            name=NAME,
        )
