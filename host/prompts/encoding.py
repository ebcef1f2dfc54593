"""Prompts to CONDITIONING, alone or as a batch, and what the node says about them.

One prompt becomes what "CLIP Text Encode" makes of it. Several become one batch: features
(N, S, D) and mask (N, S), padded with zeros to the longest; the sampler takes row i for picture i.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import comfy.sd
import torch
from torch import Tensor

from ...lumina.prompts.templates import CHOICES, Prompt, chosen_template, prepared, split
from ..choices import Choice, chosen
from ..links import CLIP, Conditioning, check_link
from ..model.conditioning import PaddedSequence, caption_mask
from ..notices import say, warn
from .tokenizer import HostTokenizer

MOST_REMARKS = 6


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt and its CONDITIONING.

    label: what the node calls it, as in "positive" or "positive 2". warnings: its tokenizer's, such
    as that it was cut. tokens: before the cut; 0 by another model's tokenizer, which does not say.
    """

    label: str
    prompt: Prompt
    conditioning: Conditioning
    warnings: Sequence[str]
    tokens: int

    @property
    def remarks(self) -> list[str]:
        notes = [self.prompt.note] if self.prompt.note else []
        return [f"{self.label}: {text}" for text in (*self.warnings, *notes)]


def encode(
    clip: comfy.sd.CLIP | None,
    positive: str,
    negative: str,
    *,
    template: Choice,
    cleaning: str,
    is_batch: bool,
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative text as CONDITIONING; the running node shows their lengths in tokens.

    template, cleaning: for the positive text. is_batch: each line is a prompt. Raises ValueError
    without a CLIP, for a template without {prompt}, and for negative prompts that are neither one
    for all nor as many as the positive ones.
    """
    _check_clip(clip)
    choice, settings = chosen(template, "template", CHOICES)
    around = chosen_template(choice, **settings)
    positives = [prepared(text, around, cleaning) for text in split(positive, is_batch)]
    negatives = [prepared(text) for text in split(negative, is_batch)]
    _check_counts(len(positives), len(negatives))
    sides = _encode_all(clip, "positive", positives), _encode_all(clip, "negative", negatives)
    _report(clip.tokenizer, *sides)
    return tuple(batch([prompt.conditioning for prompt in side]) for side in sides)


def encode_each(clip: comfy.sd.CLIP | None, texts: Mapping[str, str]) -> list[Conditioning]:
    """The CONDITIONING of each text, which the running node calls by its key.

    Raises ValueError without a CLIP.
    """
    _check_clip(clip)
    prompts = [_encode_one(clip, label, prepared(text)) for label, text in texts.items()]
    _tell(_shortened([remark for prompt in prompts for remark in prompt.remarks]), prompts)
    return [prompt.conditioning for prompt in prompts]


def _check_clip(clip: comfy.sd.CLIP | None) -> None:
    if clip is None:
        raise ValueError(
            'The input "clip" is empty: the node it comes from found no text encoder in its file. '
            'A Lumina-Next model holds none; use "Load Lumina-Next Text Encoder".'
        )
    check_link(clip, "clip", CLIP)


def _check_counts(positives: int, negatives: int) -> None:
    if negatives not in (1, positives):
        raise ValueError(
            f'With "batch" on, every line is a prompt: "positive" has {positives}, "negative" '
            f'has {negatives}. Write one line into "negative" for all pictures, or one for '
            'each line of "positive".'
        )


def _encode_all(clip: comfy.sd.CLIP, side: str, prompts: Sequence[Prompt]) -> list[EncodedPrompt]:
    if len(prompts) == 1:
        return [_encode_one(clip, side, prompts[0])]
    return [_encode_one(clip, f"{side} {n}", prompt) for n, prompt in enumerate(prompts, start=1)]


def _encode_one(clip: comfy.sd.CLIP, label: str, prompt: Prompt) -> EncodedPrompt:
    # Our tokenizer's warnings go into the report, which would hide them on the node.
    warnings: list[str] = []
    lengths = [0]
    is_ours = isinstance(clip.tokenizer, HostTokenizer)
    reports = {"on_warning": warnings.append, "on_length": lengths.append} if is_ours else {}
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(prompt.text, **reports))
    return EncodedPrompt(label, prompt, conditioning, warnings, lengths[-1])


def batch(conditionings: Sequence[Conditioning]) -> Conditioning:
    """One CONDITIONING with a row for each of these; a single one stays as it is."""
    if len(conditionings) == 1:
        return conditionings[0]
    # A CLIP with scheduled hooks encodes each prompt once per time range, the same for all.
    return [_joined(entries) for entries in zip(*conditionings, strict=True)]


def _joined(entries: Sequence[tuple[Tensor, Mapping[str, object]]]) -> list:
    features, settings = zip(*entries, strict=True)
    joined = dict(settings[0])
    masks = [options.get("attention_mask") for options in settings]
    if masks[0] is not None or len({rows.shape[1] for rows in features}) > 1:
        joined["attention_mask"] = _padded(map(caption_mask, features, masks))
    if joined.get("pooled_output") is not None:
        joined["pooled_output"] = torch.cat([options["pooled_output"] for options in settings])
    return [_padded(features), joined]


def _padded(sequences: Iterable[Tensor]) -> Tensor:
    first, *others = map(PaddedSequence, sequences)
    return first.concat(others)


def _report(
    tokenizer: object, positives: Sequence[EncodedPrompt], negatives: Sequence[EncodedPrompt]
) -> None:
    """Log and show lengths in tokens, what was cut off, what cleaning did; nothing for nothing."""
    lines = []
    # Other models' tokenizers pad their tokens, or split them: nothing to count.
    if isinstance(tokenizer, HostTokenizer):
        positive, negative = (_span(side) for side in (positives, negatives))
        limit = tokenizer.limit
        lines.append(f"positive: {positive} of {limit} tokens; negative: {negative}")
    if len(positives) > 1:
        lines.append(f"{len(positives)} prompts: give the latent a batch_size of {len(positives)}")
    prompts = [*positives, *negatives]
    remarks = [remark for prompt in prompts for remark in prompt.remarks]
    _tell(lines + _shortened(remarks), prompts)


def _shortened(remarks: list[str]) -> list[str]:
    if len(remarks) > MOST_REMARKS:
        return [*remarks[:MOST_REMARKS], f"and so on, {len(remarks) - MOST_REMARKS} more"]
    return remarks


def _tell(lines: Sequence[str], prompts: Sequence[EncodedPrompt]) -> None:
    text = "\n".join(lines)
    if any(prompt.warnings for prompt in prompts):
        warn(text)
    elif text:
        say(text)


def _span(prompts: Sequence[EncodedPrompt]) -> str:
    lengths = [prompt.tokens for prompt in prompts]
    low, high = min(lengths), max(lengths)
    return f"{low}" if low == high else f"{low} to {high}"
