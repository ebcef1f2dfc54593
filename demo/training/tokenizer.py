"""The demo model's vocabulary: sentencepiece pieces learned from captions.

Gemma's special ids (padding 0, end 1, begin 2, unknown 3) and byte fallback, so that any text can
be encoded; letters are folded to lower case, as the captions are all lower case.
"""

import io
import random
import re

import sentencepiece
import torch
from torch import Tensor

from lumina.prompts.known_words import KnownWords

from ..scenes.drawing import BACKGROUNDS, COLORS, PLACES, SHAPES, caption, sample_training_scene

BOS = 2
VOCABULARY = 448  # special ids, 256 bytes, and every word of the captions as one piece


def train_tokenizer(sentences: int = 20_000) -> bytes:
    """A sentencepiece model trained on that many captions."""
    rng = random.Random(0)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(caption(sample_training_scene(rng), rng) for _ in range(sentences)),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=BOS,
        unk_id=3,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="nmt_nfkc_cf",
        minloglevel=2,
    )
    return model.getvalue()


def known_words(sentences: int = 20_000) -> KnownWords:
    """Every word of that many captions: first what can be asked for, then what joins it."""
    rng = random.Random(0)
    captions = " ".join(caption(sample_training_scene(rng), rng) for _ in range(sentences))
    named = " ".join([*SHAPES, *COLORS, *BACKGROUNDS, *PLACES]).split()
    words = dict.fromkeys([*named, *sorted(set(re.findall(r"\w+", captions)))])
    return KnownWords("The demo model", tuple(words))


class Tokenizer:
    """Captions to ids and mask, both (B, S): begin, text, padding on the right."""

    def __init__(self, model: bytes) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        return self.pieces.vocab_size()

    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        rows = [[BOS, *ids] for ids in self.pieces.encode(captions)]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        return ids, mask
