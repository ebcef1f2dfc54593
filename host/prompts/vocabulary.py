"""A text encoder's vocabulary, in whichever form travels with the weights.

A SentencePiece model (`tokenizer.model`, `spiece.model`, or the tensor `spiece_model` inside a
weights file), or the same vocabulary as Hugging Face's `tokenizer.json` (`tokenizer_json`). Both
give the tokens of a bare text, as the library of each one does, and where in the text they stand.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol

import comfy.text_encoders.t5
import tokenizers
import torch
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer
from torch import Tensor

from ...lumina.checkpoints.convert.folders import TOKENIZERS
from ...lumina.prompts.formats import PROMPT_FORMATS, PromptFormat

Span = tuple[int, int, int]  # token, and where in the text its letters begin and end


class Tokenizer(Protocol):
    """A tokenizer as the host's SDTokenizer uses one, and as a checkpoint stores it.

    with_special_tokens: tokens of a text with all that its model puts around it; None where it
    cannot tell.
    size: one more than the largest token; text_size: without those that no plain text has. begin,
    end: its tokens for that, which it never adds.
    """

    size: int
    text_size: int
    begin: int | None
    end: int | None

    @property
    def with_special_tokens(self) -> Callable[[str], list[int]] | None: ...
    def __call__(self, text: str) -> dict[str, list[int]]: ...
    def spans(self, text: str) -> Iterator[Span]: ...
    def get_vocab(self) -> dict[str, int]: ...
    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str: ...
    def state_dict(self) -> dict[str, Tensor]: ...


class SentencePieceTokenizer(SPieceTokenizer):
    """Tokens of a serialized SentencePiece model."""

    with_special_tokens = None

    def __init__(self, model: bytes) -> None:
        super().__init__(model, add_bos=False, add_eos=False)
        ends = self.tokenizer.bos_id(), self.tokenizer.eos_id()
        self.begin, self.end = (token if token >= 0 else None for token in ends)
        self.size = self.text_size = self.tokenizer.get_piece_size()

    def spans(self, text: str) -> Iterator[Span]:
        if hasattr(self.tokenizer, "encode_as_offset_mapping"):
            found = self.tokenizer.encode(text, out_type="offset_mapping")
            for token, (begin, end) in zip(found["ids"], found["offsets"], strict=True):
                yield token, begin, end
        else:  # sentencepiece before 0.2.2, which ComfyUI allows
            for piece in self.tokenizer.encode(text, out_type="immutable_proto").pieces:
                yield piece.id, piece.begin, piece.end

    def state_dict(self) -> dict[str, Tensor]:
        return {"spiece_model": self.serialize_model()}


class JsonTokenizer:
    """Tokens of a Hugging Face `tokenizer.json`."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        said = json.loads(model)
        words = said["model"]["vocab"]
        known = words if isinstance(words, dict) else {word[0]: i for i, word in enumerate(words)}
        added = said.get("added_tokens", ())
        special = {token["content"] for token in added if token.get("special")}
        known = known | {token["content"]: token["id"] for token in added}
        self.size = max(known.values()) + 1
        self.text_size = max(known[word] for word in known.keys() - special) + 1
        # Gemma's first: LLaMA's are HTML tags in its vocabulary.
        self.begin = known.get("<bos>", known.get("<s>"))
        self.end = known.get("<eos>", known.get("</s>"))

    @cached_property
    def processor(self) -> tokenizers.Tokenizer:
        processor = tokenizers.Tokenizer.from_buffer(self.model)
        processor.no_truncation()
        processor.no_padding()
        return processor

    def with_special_tokens(self, text: str) -> list[int]:
        return self.processor.encode(text).ids

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": self.processor.encode(text, add_special_tokens=False).ids}

    def spans(self, text: str) -> Iterator[Span]:
        found = self.processor.encode(text, add_special_tokens=False)
        for token, (begin, end) in zip(found.ids, found.offsets, strict=True):
            yield token, begin, end

    def get_vocab(self) -> dict[str, int]:
        return self.processor.get_vocab()

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        return self.processor.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def state_dict(self) -> dict[str, Tensor]:
        return {"tokenizer_json": torch.frombuffer(bytearray(self.model), dtype=torch.uint8)}


FORMS = {"spiece_model": SentencePieceTokenizer, "tokenizer_json": JsonTokenizer}
FILES = {name: FORMS[key] for name, key in TOKENIZERS.items()}
# ComfyUI's own T5 files come without a tokenizer, since it is here.
HOST_T5 = Path(comfy.text_encoders.t5.__file__).parent / "t5_tokenizer" / "tokenizer.json"
HOST_T5_VOCABULARY = 32_128


def open_tokenizer(
    file: Path, weights: Mapping[str, Tensor], vocabulary: int, prompt_format: PromptFormat
) -> Tokenizer:
    """The tokenizer inside the weights of `file`, or the file of one beside it, ready to use.

    Raises ValueError as `check_tokenizer` does.
    """
    return _open(file, weights, vocabulary, prompt_format, is_used=True)


def check_tokenizer(
    file: Path, weights: Mapping[str, Tensor], vocabulary: int, prompt_format: PromptFormat
) -> None:
    """Raise ValueError if there is no tokenizer, or not one for a model of these `prompt_format`.

    Or if it knows more tokens than the `vocabulary` that the model has embeddings for. The text
    says which file to put where. Of `weights`, only a tokenizer's bytes need be there.
    """
    _open(file, weights, vocabulary, prompt_format, is_used=False)


def _open(
    file: Path,
    weights: Mapping[str, Tensor],
    vocabulary: int,
    prompt_format: PromptFormat,
    *,
    is_used: bool,
) -> Tokenizer:
    problems = []
    for form, model, source in _found(file, weights, vocabulary, prompt_format):
        try:
            tokenizer = form(model)
            if is_used:
                tokenizer("")
        except Exception as error:  # both libraries raise bare exceptions for what they cannot read
            problems.append(f"{source} cannot be read as a tokenizer: {error}. Download it again.")
            continue
        problem = _misfit(tokenizer, vocabulary, prompt_format, file)
        if problem is None:
            return tokenizer
        problems.append(f"{source} {problem}")
    raise ValueError(problems[0] if problems else _missing(file, prompt_format))


def _misfit(
    tokenizer: Tokenizer, vocabulary: int, prompt_format: PromptFormat, file: Path
) -> str | None:
    found, expected = (tokenizer.begin, tokenizer.end), (prompt_format.begin, prompt_format.end)
    if prompt_format.are_fixed and found != expected:
        return (
            f"is another model's tokenizer: the tokens that begin and end a text are {found}, not "
            f"{expected}. {_advice(file, prompt_format)}"
        )
    # Gemma-3's tokenizer has a token for pictures that the smallest, for text only, lacks.
    size = tokenizer.size if prompt_format.are_fixed else tokenizer.text_size
    if size > vocabulary:
        return (
            f"knows {size:,} tokens, but {file.name} has embeddings for {vocabulary:,}: "
            "they belong to different models. Use the tokenizer that came with the weights."
        )
    return None


def _missing(file: Path, prompt_format: PromptFormat) -> str:
    return f"{file.name} comes without a tokenizer. {_advice(file, prompt_format)}"


def _advice(file: Path, prompt_format: PromptFormat) -> str:
    name, own = prompt_format.tokenizer_file, ""
    if not _is_in_folder_of_its_own(file):
        own = (
            f"; where other models live there too, call it {file.stem}.{name} or "
            f"{file.stem}.tokenizer.json"
        )
    return (
        f"Put {name} or tokenizer.json of {prompt_format.published_as} beside it, into "
        f"{file.parent.name}{own}."
    )


def _found(
    file: Path, weights: Mapping[str, Tensor], vocabulary: int, prompt_format: PromptFormat
) -> Iterator[tuple[type[Tokenizer], bytes, str]]:
    """Form and bytes of each tokenizer that may be the one, and its name for an error text."""
    for key, form in FORMS.items():
        if key in weights:
            yield form, weights[key].numpy().tobytes(), f'"{key}" in {file.name}'
    for candidate, form in _candidates(file):
        if candidate.is_file():
            yield form, candidate.read_bytes(), candidate.name
    is_t5 = prompt_format == PROMPT_FORMATS["t5"] and vocabulary == HOST_T5_VOCABULARY
    if is_t5 and not _is_in_folder_of_its_own(file):
        yield JsonTokenizer, HOST_T5.read_bytes(), "ComfyUI's tokenizer for T5"


def _is_in_folder_of_its_own(file: Path) -> bool:
    return (file.parent / "config.json").is_file()


def _candidates(file: Path) -> list[tuple[Path, type[Tokenizer]]]:
    # A file's own tokenizer first: its folder may hold the text encoders of several models.
    own = [(file.with_name(f"{file.stem}.{name}"), form) for name, form in FILES.items()]
    folders = [file.parent, file.parent.parent / "tokenizer"]  # the latter in a diffusers pipeline
    return own + [(folder / name, form) for folder in folders for name, form in FILES.items()]
