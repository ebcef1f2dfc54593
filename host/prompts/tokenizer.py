"""Prompts as tokens, in the host's notation for weights and embeddings: (red:1.3), embedding:name.

A text is tokenized as a whole and weights are put on its tokens afterwards, so that they never
change which tokens there are. Around them go what `encoder_rules` says.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace

import comfy.sd1_clip
from comfy.sd1_clip import escape_important, token_weights, unescape_important
from torch import Tensor

from ...lumina.prompts.formats import PromptFormat
from ...lumina.prompts.templates import beginning
from ..notices import warn
from ..text_encoders.writing import PromptsToContinue
from .vocabulary import Tokenizer

_EMBEDDING = re.compile(r"(?:\A|(?<=\s))embedding:")
_WITHIN_WORD = re.compile("[a-zA-Z]{2}")

Token = tuple[int | Tensor, float, int]  # or an embedding's vector; its weight; its group
Placed = tuple[Token, "Run", int]  # and in which text it begins at which letter
Tell = Callable[[str], None]


class PromptTokenizer(comfy.sd1_clip.SDTokenizer):
    """Prompts, with the host's weights and embeddings, as the tokens of one text encoder.

    tokenizer_data: {"tokenizer": Tokenizer, "prompt_format": PromptFormat, "width": features of an
    embedding, "saved": tensors for `state_dict`}.
    """

    def __init__(
        self,
        embedding_directory: str | list[str] | None = None,
        tokenizer_data: Mapping[str, object] | None = None,
    ) -> None:
        tokenizer_data = tokenizer_data or {}
        tokenizer: Tokenizer = tokenizer_data["tokenizer"]
        self.prompt_format: PromptFormat = tokenizer_data["prompt_format"]
        self.saved: Mapping[str, Tensor] = tokenizer_data.get("saved", {})
        super().__init__(
            tokenizer,
            tokenizer_class=SimpleNamespace(from_pretrained=lambda given: given),
            embedding_directory=embedding_directory,
            embedding_size=tokenizer_data["width"],
            embedding_key=self.prompt_format.name,
            has_start_token=False,  # `tokenizer` adds neither
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

    def count(self, text: str) -> int:
        """How many tokens a prompt has before it is cut, begin and end included."""
        begin, end = self._ends()
        tokens = self._tokens(self._parts(text, is_weighted=True, tell=lambda remark: None))
        return len([*begin, *tokens, *end])

    def to_continue(self, text: str) -> list[int]:
        """Tokens of a text that is to be continued: no notation, no end, no limit."""
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
        tell: Tell = warn,
        **kwargs: object,
    ) -> list[list[tuple]]:
        """(token, weight[, group]) of each token, cut at `limit`: one batch.

        tell: is given a sentence on what was cut off or left out. Other keyword arguments are for
        models that see pictures, or read templates, and mean nothing here.
        """
        batch = self._fitting(self._tokens(self._parts(text, not disable_weights, tell)), tell)
        options, name = tokenizer_options or {}, self.prompt_format.name
        self.pad_tokens(batch, options.get(f"{name}_min_padding", 0))
        if min_length is None:
            min_length = options.get(f"{name}_min_length", 1)
        self.pad_tokens(batch, max(0, min_length - len(batch)))
        return [batch if return_word_ids else [(token, weight) for token, weight, _ in batch]]

    def _fitting(self, tokens: Iterator[Placed], tell: Tell) -> list[Token]:
        """Begin, as many tokens as there is room for, end."""
        (begin, end), placed = self._ends(), list(tokens)
        room = self.limit - len(begin) - len(end)
        if len(placed) > room:
            _, run, place = placed[room]
            rest = beginning(run.after(place)) or "embedding:"
            tell(
                f"The prompt has {len(begin) + len(placed) + len(end)} tokens, the text encoder "
                f'reads {self.limit}: those from "{rest}" on were cut off.'
            )
        return [*begin, *(token for token, _, _ in placed[:room]), *end]

    def _ends(self) -> list[list[Token]]:
        ends = self.start_token, self.end_token
        return [[] if token is None else [(token, 1.0, 0)] for token in ends]

    def _tokens(self, parts: Iterator[tuple[str | Tensor, float]]) -> Iterator[Placed]:
        run = Run()
        for group, (part, weight) in enumerate(parts, start=1):
            if isinstance(part, str):
                run.add(part, weight, group)
                continue
            yield from self._tokens_of_run(run)
            run = Run()  # what is after the embedding: its vectors have no letters
            yield from (((vector, weight, group), run, 0) for vector in part)
        yield from self._tokens_of_run(run)

    def _tokens_of_run(self, run: "Run") -> Iterator[Placed]:
        if not run.text:
            return
        # A prompt may spell it, as in "</s>"; the host takes it for the end, and hides the rest.
        end = self.pad_token if self.end_token is None else self.end_token
        for token, begin, past in self.tokenizer.spans(run.text):
            if token != end:
                yield (token, *run.weight(begin, past)), run, begin

    def _parts(
        self, text: str, is_weighted: bool, tell: Tell
    ) -> Iterator[tuple[str | Tensor, float]]:
        """Text without notation, and the vectors (count, width) of embeddings, with weights."""
        text = escape_important(text.encode("utf-8", "replace").decode())  # half an emoji cannot be
        segments = token_weights(text, 1.0) if is_weighted else [(text, 1.0)]
        for segment, weight in segments:
            plain, *named = _EMBEDDING.split(unescape_important(segment))
            yield plain, weight
            for words in named:
                vectors, rest = self._embedding(words, tell)
                if vectors is not None:
                    yield vectors, weight
                yield rest, weight

    def _embedding(self, words: str, tell: Tell) -> tuple[Tensor | None, str]:
        """The embedding that `words` begin with the name of, and what follows the name."""
        if not words.strip():
            return None, words
        vectors, name, rest = self._try_get_embedding(words.strip("\n"))
        if vectors is None:
            tell(f'There is no embedding "{name}" in models/embeddings; it was left out.')
        elif vectors.shape[-1] != self.embedding_size:
            tell(
                f'The embedding "{name}" has {vectors.shape[-1]} features, this text encoder '
                f"{self.embedding_size}: it is for another one, and was left out."
            )
            vectors = None
        return vectors if vectors is None else vectors.reshape(-1, self.embedding_size), rest

    def state_dict(self) -> dict[str, Tensor]:
        """What a saved checkpoint needs to tokenize again."""
        return {**self.tokenizer.state_dict(), **self.saved}


class Run:
    """A text that is tokenized as a whole, and which weight each of its letters has."""

    def __init__(self) -> None:
        self.text = ""
        self.letters: list[tuple[float, int]] = []  # weight and group

    def add(self, text: str, weight: float, group: int) -> None:
        self.text += text
        self.letters += [(weight, group)] * len(text)

    def after(self, place: int) -> str:
        """The text from `place` on; from the beginning of the word if that is within one."""
        while place and _WITHIN_WORD.match(self.text, place - 1):
            place -= 1
        return self.text[place:]

    def weight(self, begin: int, end: int) -> tuple[float, int]:
        """Weight and group of a token: of its letters', that which is farthest from 1.

        A space in a token belongs to the word after it and is not asked. A token of no letters,
        which is a part of one or was put before the text, goes with the next.
        """
        within = slice(begin, max(end, begin + 1))
        letters, text = self.letters[within] or self.letters[-1:], self.text[within]
        words = [found for found, letter in zip(letters, text, strict=False) if letter.strip()]
        return max(words or letters, key=lambda found: abs(found[0] - 1))


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

    @property
    def inner(self) -> PromptTokenizer:
        return getattr(self, self.clip)

    @property
    def limit(self) -> int:
        """How many tokens of a prompt are read, begin and end included."""
        return self.inner.limit

    def count(self, text: str) -> int:
        """How many tokens a prompt has before it is cut, begin and end included."""
        return self.inner.count(text)
