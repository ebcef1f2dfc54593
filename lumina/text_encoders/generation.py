"""A decoder as a writer: the long caption that follows a short one, token by token.

The next token is chosen as transformers' `generate` chooses it: penalties, temperature, top k,
top p, min p, in this order. ComfyUI 0.30 has such a loop too, `BaseGenerate`, but another text
comes of it: greedy, it applies no penalty; its top p leaves out the token that reaches the sum, so
that 216 of 400 random distributions lost candidates; and on a GPU a seed draws other numbers than
on the CPU. It also fails without a seed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .decoder import Decoder

END_OF_TURN = "<end_of_turn>"  # where Gemma's instruction-tuned models stop
NEWLINE_BYTE = "<0x0A>"


def stop_tokens(pieces: Mapping[int, str], end: int | None, *, at_line_end: bool) -> frozenset[int]:
    """Tokens that end a text: `end`, and of a vocabulary those whose `pieces` are written so."""
    names = {END_OF_TURN}
    if at_line_end:
        names |= {NEWLINE_BYTE, *(piece for piece in pieces.values() if "\n" in piece)}
    found = {number for number, piece in pieces.items() if piece in names}
    return frozenset(found if end is None else found | {end})


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Raises ValueError for a number outside its range.

    temperature sharpens (below 1) or flattens the odds; 0 takes the likeliest token. Then only
    these are drawn from: the top_k likeliest (0: all), of those the likeliest that together reach
    top_p, and what is at least min_p times as likely as the first. For a token written before,
    repetition_penalty divides a positive score and multiplies a negative one, and presence_penalty
    is subtracted; the prompt's own words are free.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0:
            raise ValueError(
                "temperature and top_k must not be negative, got "
                f"{self.temperature} and {self.top_k}"
            )
        if not (0 <= self.top_p <= 1 and 0 <= self.min_p <= 1):
            raise ValueError(
                f"top_p and min_p must lie between 0 and 1, got {self.top_p} and {self.min_p}"
            )
        if self.repetition_penalty <= 0:
            raise ValueError(
                f"repetition_penalty must be above 0, got {self.repetition_penalty}. 1 switches it "
                "off, 1.1 discourages repetition."
            )


def write(
    decoder: Decoder,
    embeds: Tensor,
    sampling: Sampling,
    *,
    max_tokens: int,
    stops: Collection[int] = (),
    seed: int | None = None,
) -> Iterator[int]:
    """The tokens that follow embeds (1, S, D), each as soon as it is known.

    Ends before the first of `stops`, or after max_tokens. The same seed gives the same tokens and
    leaves torch's own random numbers alone; without one they differ each time. Activations keep
    the dtype of embeds.
    """
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    cache, written = decoder.new_cache(), list[int]()
    for _ in range(max_tokens):
        (state,) = decoder.hidden_states(embeds, None, (-1,), cache)
        token = next_token(decoder.logits(state[:, -1])[0], written, sampling, generator)
        if token in stops:
            return
        written.append(token)
        yield token
        embeds = decoder.embed(torch.tensor([[token]], device=embeds.device)).to(embeds.dtype)


def next_token(
    logits: Tensor, written: Sequence[int], sampling: Sampling, generator: torch.Generator
) -> int:
    """A token drawn from logits (vocab_size,), those `written` before being penalized."""
    scores = penalized(logits.float(), written, sampling)
    if sampling.temperature == 0:
        return int(scores.argmax())
    tokens, odds = candidates(scores / sampling.temperature, sampling)
    return int(tokens[torch.multinomial(odds, 1, generator=generator)])


def penalized(scores: Tensor, written: Sequence[int], sampling: Sampling) -> Tensor:
    """Scores (vocab_size,) with those of `written` tokens lowered once, however often they came."""
    tokens = torch.tensor(written, dtype=torch.long, device=scores.device)
    known, penalty = scores[tokens], sampling.repetition_penalty
    lowered = torch.where(known < 0, known * penalty, known / penalty) - sampling.presence_penalty
    return scores.index_copy(0, tokens, lowered)


def candidates(scores: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The tokens (N,) that may come next, likeliest first, and their probabilities (N,).

    Both on the CPU, where the same seed draws the same token whatever device the model is on.
    """
    tokens = torch.arange(len(scores), device=scores.device)
    if 0 < sampling.top_k < len(scores):
        # Whatever is as likely as the last of them stays, so that chance does not choose here.
        tokens = (scores >= scores.topk(sampling.top_k).values[-1]).nonzero()[:, 0]
    ordered, order = scores[tokens].cpu().sort(descending=True, stable=True)
    odds = ordered.double().softmax(0)
    likelier = odds.cumsum(0) - odds  # the sum of all before
    is_within = (likelier < sampling.top_p) | (sampling.top_p >= 1)  # rounding reaches 1 too early
    is_kept = is_within & (odds >= sampling.min_p * odds[0])
    is_kept[0] = True
    return tokens.cpu()[order[is_kept]], odds[is_kept] / odds[is_kept].sum()
