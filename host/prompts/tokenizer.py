"""Prompts as tokens, with the host's syntax for weights and embeddings: (red:1.3), embedding:name.

A text is tokenized without its weights; its tokens get them afterward, so that weights never
change which tokens there are. A `PromptFormat` says which tokens go around them, and the limit.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace

import comfy.sd1_clip
from comfy.sd1_clip import escape_important, token_weights, unescape_important
from torch import Tensor

from ...lumina.prompts.formats import PromptFormat
from ...lumina.prompts.known_words import KnownWords
from ...lumina.prompts.templates import beginning
from .. import versions
from ..notices import warn
from .continuation import PromptsToContinue
from .left_out import LeftOut
from .named_tokens import NamedTokens
from .vocabulary import Tokenizer

_EMBEDDING = re.compile(r"(?:\A|(?<=\s))embedding:")
_WITHIN_WORD = re.compile("[a-zA-Z]{2}")

Token = tuple[int | Tensor, float, int]  # id, or an embedding's vector; weight; group
LocatedToken = tuple[Token, "WeightedText", int]  # with its text, and its offset there
OnWarning = Callable[[str], None]
OnLength = Callable[[int], object]


class PromptTokenizer(comfy.sd1_clip.SDTokenizer):
    """The host's tokenizer of one text encoder, over any `Tokenizer`.

    tokenizer_data: {"tokenizer": Tokenizer, "prompt_format": PromptFormat, "width": features of an
    embedding, "known_words": KnownWords or None, "saved": further tensors for `state_dict`}.
    """

    def __init__(
        self,
        embedding_directory: str | list[str] | None = None,
        tokenizer_data: Mapping[str, object] | None = None,
    ) -> None:
        tokenizer_data = tokenizer_data or {}
        tokenizer: Tokenizer = tokenizer_data["tokenizer"]
        self.prompt_format: PromptFormat = tokenizer_data["prompt_format"]
        self.known_words: KnownWords | None = tokenizer_data.get("known_words")
        self.saved: Mapping[str, Tensor] = tokenizer_data.get("saved", {})
        super().__init__(
            tokenizer,
            tokenizer_class=SimpleNamespace(from_pretrained=lambda tokenizer: tokenizer),
            embedding_directory=embedding_directory,
            embedding_size=tokenizer_data["width"],
            embedding_key=self.prompt_format.name,
            has_start_token=False,  # `tokenizer` adds no start or end
            has_end_token=False,
            start_token=self.prompt_format.begin,
            end_token=self.prompt_format.end if self.prompt_format.adds_end else None,
            pad_with_end=False,
            pad_token=self.prompt_format.pad,
            pad_to_max_length=False,
            max_length=self.prompt_format.limit,
            tokenizer_data=tokenizer_data,
        )

    @property
    def limit(self) -> int:
        """How many tokens are read, begin and end included."""
        return self.prompt_format.limit

    def to_continue(self, text: str) -> list[int]:
        """Tokens of a text that is to be continued: no prompt syntax, no end token, no limit."""
        begin = [] if self.start_token is None else [self.start_token]
        return begin + self.tokenizer(text)["input_ids"]

    def tokenize_with_weights(
        self,
        text: str,
        return_word_ids: bool = False,
        tokenizer_options: Mapping[str, int] | None = None,
        *,
        disable_weights: bool = False,
        min_length: int | None = None,
        on_warning: OnWarning = warn,
        on_length: OnLength = lambda length: None,
        **kwargs: object,
    ) -> list[list[tuple]]:
        """One batch of (token, weight[, group]), at most `limit` tokens.

        on_warning: called with a sentence on what was cut off, left out or is not known. on_length:
        called with the number of tokens before the cut, begin and end included. Other keyword
        arguments are for models that read pictures or templates, and are ignored.
        """
        left_out = LeftOut(self.embedding_size)
        segments = list(self._segments(text, not disable_weights, left_out))
        for sentence in left_out.sentences():
            on_warning(sentence)
        self._warn_of_unknown_words(segments, on_warning)
        batch = self._cut_to_limit(self._tokens(iter(segments)), on_warning, on_length)
        options, name = tokenizer_options or {}, self.prompt_format.name
        self.pad_tokens(batch, options.get(f"{name}_min_padding", 0))
        if min_length is None:
            min_length = options.get(f"{name}_min_length", 1)
        self.pad_tokens(batch, max(0, min_length - len(batch)))
        return [batch if return_word_ids else [(token, weight) for token, weight, _ in batch]]

    def _warn_of_unknown_words(
        self, segments: Iterable[tuple[str | Tensor, float]], on_warning: OnWarning
    ) -> None:
        if self.known_words is None:
            return
        text = "".join(part if isinstance(part, str) else " " for part, _ in segments)
        unknown = self.known_words.explain_unknown(text)
        if unknown:
            on_warning(unknown)

    def _cut_to_limit(
        self,
        tokens: Iterator[LocatedToken],
        on_warning: OnWarning,
        on_length: OnLength,
    ) -> list[Token]:
        """The begin token, as many tokens as fit, the end token."""
        (begin, end), located = self._begin_and_end(), list(tokens)
        length = len(begin) + len(located) + len(end)
        on_length(length)
        room = self.limit - len(begin) - len(end)
        if len(located) > room:
            _, text, offset = located[room]
            cut_off = beginning(text.after(offset)) or "embedding:"
            on_warning(
                f"The prompt has {length} tokens, the text encoder reads {self.limit}: those from "
                f'"{cut_off}" on were cut off.'
            )
        return [*begin, *(token for token, _, _ in located[:room]), *end]

    def _begin_and_end(self) -> list[list[Token]]:
        tokens = self.start_token, self.end_token
        return [[] if token is None else [(token, 1.0, 0)] for token in tokens]

    def _tokens(self, segments: Iterator[tuple[str | Tensor, float]]) -> Iterator[LocatedToken]:
        text = WeightedText()
        for group, (segment, weight) in enumerate(segments, start=1):
            if isinstance(segment, str):
                text.add(segment, weight, group)
                continue
            yield from self._tokens_of_text(text)
            text = WeightedText()  # begins after the embedding, whose vectors are at offset 0
            yield from (((vector, weight, group), text, 0) for vector in segment)
        yield from self._tokens_of_text(text)

    def _tokens_of_text(self, text: "WeightedText") -> Iterator[LocatedToken]:
        if not text.text:
            return
        # Left out where a prompt spells it, as in "</s>": the host would mask all tokens after it.
        end = self.pad_token if self.end_token is None else self.end_token
        for token, start, stop in self.tokenizer.spans(text.text):
            if token != end:
                yield (token, *text.weight(start, stop)), text, start

    def _segments(
        self, text: str, is_weighted: bool, left_out: LeftOut
    ) -> Iterator[tuple[str | Tensor, float]]:
        """Texts without prompt syntax, and embeddings (count, width), each with its weight."""
        text = text.encode("utf-8", "replace").decode()  # no tokenizer takes half an emoji
        text = escape_important(text)
        for segment, weight in token_weights(text, 1.0) if is_weighted else [(text, 1.0)]:
            plain, *after_keyword = _EMBEDDING.split(unescape_important(segment))
            yield plain, weight
            for named in after_keyword:
                vectors, rest = self._embedding(named, left_out)
                if vectors is not None:
                    yield vectors, weight
                yield rest, weight

    def _embedding(self, text: str, left_out: LeftOut) -> tuple[Tensor | None, str]:
        """The embedding (count, width) whose name starts `text`, if any, and the rest of `text`."""
        if not text.strip():
            return None, text
        text = text.strip("\n")
        found = self._try_get_embedding(text)
        vectors, name, rest = versions.embedding_at_start(found, text)
        if vectors is None:
            left_out.missing[name] = None
        elif vectors.shape[-1] != self.embedding_size:
            left_out.foreign[name] = vectors.shape[-1]
            vectors = None
        return vectors if vectors is None else vectors.reshape(-1, self.embedding_size), rest

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors from which a saved checkpoint rebuilds this tokenizer."""
        return {**self.tokenizer.state_dict(), **self.saved}


class WeightedText:
    """A text that is tokenized in one piece, and the weight of each of its characters."""

    def __init__(self) -> None:
        self.text = ""
        self.weights: list[tuple[float, int]] = []  # weight and group of each character

    def add(self, text: str, weight: float, group: int) -> None:
        self.text += text
        self.weights += [(weight, group)] * len(text)

    def after(self, offset: int) -> str:
        """The text from `offset` on, or from the start of the word that `offset` is inside."""
        while offset and _WITHIN_WORD.match(self.text, offset - 1):
            offset -= 1
        return self.text[offset:]

    def weight(self, start: int, stop: int) -> tuple[float, int]:
        """Weight and group of a token: of its characters' weights, the one farthest from 1.

        Spaces do not count: a token may include the space before its word. A token without
        characters, such as a byte of one or a prefix of the text, has the next character's weight.
        """
        span = slice(start, max(stop, start + 1))
        weights, characters = self.weights[span] or self.weights[-1:], self.text[span]
        visible = [w for w, char in zip(weights, characters, strict=False) if char.strip()]
        return max(visible or weights, key=lambda item: abs(item[0] - 1))


class HostTokenizer(PromptsToContinue, comfy.sd1_clip.SD1Tokenizer):
    """The one-encoder tokenizer that CLIP objects hold."""

    def __init__(
        self,
        embedding_directory: str | list[str] | None = None,
        tokenizer_data: Mapping[str, object] | None = None,
    ) -> None:
        tokenizer_data = tokenizer_data or {}
        super().__init__(
            embedding_directory=embedding_directory,
            tokenizer_data=tokenizer_data,
            tokenizer=PromptTokenizer,
            name=tokenizer_data["prompt_format"].name,
        )

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **kwargs: object
    ) -> NamedTokens:
        return NamedTokens(super().tokenize_with_weights(text, return_word_ids, **kwargs))

    @property
    def inner(self) -> PromptTokenizer:
        return getattr(self, self.clip)

    @property
    def limit(self) -> int:
        """How many tokens of a prompt are read, begin and end included."""
        return self.inner.limit
