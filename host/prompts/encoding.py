"""Prompts to CONDITIONING, alone or as a batch, and what the node says about them.

One prompt becomes what "CLIP Text Encode" makes of it. Several become one batch: features
(N, S, D) and mask (N, S), padded with zeros to the longest; the sampler takes row i for picture i.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import comfy.sd
import torch
from torch import Tensor

from ...lumina.prompts.templates import Prompt
from ..model.conditioning import PaddedSequence, caption_mask
from ..notices import say, warn
from .tokenizer import HostTokenizer

Conditioning = list[list]  # of [features, what else belongs to them]; most often just one
MOST_REMARKS = 6


@dataclass(frozen=True)
class Encoded:
    """A prompt, its place in the node, as in "positive" or "positive 2", and what came of it.

    warnings: its tokenizer's, such as that it was cut.
    """

    place: str
    prompt: Prompt
    conditioning: Conditioning
    warnings: Sequence[str]


def encode_both(
    clip: comfy.sd.CLIP | None, positive: Sequence[Prompt], negative: Sequence[Prompt]
) -> tuple[Conditioning, Conditioning]:
    """Both sides encoded; how many tokens they have is said on the running node.

    Raises ValueError without a CLIP, and for negative prompts that are neither one for all nor as
    many as the positive ones.
    """
    if clip is None:
        raise ValueError(
            'The input "clip" is empty: the node it comes from found no text encoder in its file. '
            'A Lumina-Next model holds none; use "Load Lumina-Next Text Encoder".'
        )
    if len(negative) not in (1, len(positive)):
        raise ValueError(
            f'With "batch" on, every line is a prompt: "positive" has {len(positive)}, "negative" '
            f'has {len(negative)}. Write one line into "negative" for all pictures, or one for '
            'each line of "positive".'
        )
    wanted = _encode(clip, "positive", positive)
    unwanted = _encode(clip, "negative", negative)
    text = _report(clip.tokenizer, wanted, unwanted)
    if any(one.warnings for one in (*wanted, *unwanted)):
        warn(text)
    elif text:
        say(text)
    return tuple(batch([one.conditioning for one in side]) for side in (wanted, unwanted))


def _encode(clip: comfy.sd.CLIP, name: str, prompts: Sequence[Prompt]) -> list[Encoded]:
    places = [f"{name} {n}" for n in range(1, len(prompts) + 1)] if len(prompts) > 1 else [name]
    return [_encode_one(clip, *one) for one in zip(places, prompts, strict=True)]


def _encode_one(clip: comfy.sd.CLIP, place: str, prompt: Prompt) -> Encoded:
    # Our tokenizer's warnings go into the report, which would hide them on the node.
    warnings: list[str] = []
    told = {"tell": warnings.append} if isinstance(clip.tokenizer, HostTokenizer) else {}
    tokens = clip.tokenize(prompt.text, **told)
    return Encoded(place, prompt, clip.encode_from_tokens_scheduled(tokens), warnings)


# --- several prompts as one


def batch(conditionings: Sequence[Conditioning]) -> Conditioning:
    """One CONDITIONING with a row for each of these; a single one stays as it is."""
    if len(conditionings) == 1:
        return conditionings[0]
    # A CLIP with scheduled hooks encodes each prompt once per time range, the same for all.
    return [_joined(entries) for entries in zip(*conditionings, strict=True)]


def _joined(entries: Sequence[tuple[Tensor, Mapping[str, object]]]) -> list:
    features, settings = zip(*entries, strict=True)
    joined = dict(settings[0])
    masks = [own.get("attention_mask") for own in settings]
    if masks[0] is not None or len({part.shape[1] for part in features}) > 1:
        joined["attention_mask"] = _padded(map(caption_mask, features, masks))
    if joined.get("pooled_output") is not None:
        joined["pooled_output"] = torch.cat([own["pooled_output"] for own in settings])
    return [_padded(features), joined]


def _padded(sequences: Iterable[Tensor]) -> Tensor:
    first, *others = map(PaddedSequence, sequences)
    return first.concat(others)


# --- what the node says


def _report(tokenizer: object, positive: Sequence[Encoded], negative: Sequence[Encoded]) -> str:
    """Lengths in tokens, what was cut off, what cleaning did; "" if there is nothing to say."""
    both = [*positive, *negative]
    remarks = [f"{one.place}: {warning}" for one in both for warning in one.warnings]
    remarks += [f"{one.place}: {one.prompt.note}" for one in both if one.prompt.note]
    lines = []
    # Other models' tokenizers fill their tokens up, or split them: nothing to count.
    if isinstance(tokenizer, HostTokenizer):
        lengths = [_length(tokenizer, one) for one in both]
        mine, others = lengths[: len(positive)], lengths[len(positive) :]
        lines.append(
            f"positive: {_span(mine)} of {tokenizer.limit} tokens; negative: {_span(others)}"
        )
    if len(positive) > 1:
        lines.append(f"{len(positive)} prompts: give the latent a batch_size of {len(positive)}")
    if len(remarks) > MOST_REMARKS:
        remarks[MOST_REMARKS:] = [f"and so on, {len(remarks) - MOST_REMARKS} more"]
    return "\n".join(lines + remarks)


def _span(lengths: Sequence[int]) -> str:
    low, high = min(lengths), max(lengths)
    return f"{low}" if low == high else f"{low} to {high}"


def _length(tokenizer: HostTokenizer, one: Encoded) -> int:
    """Tokens before the cut."""
    (features, _), *_ = one.conditioning
    read = features.shape[1]
    return read if read < tokenizer.limit else tokenizer.count(one.prompt.text)
