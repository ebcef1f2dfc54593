"""How the host batches prompts, and which prompts and latents fit a model.

Captions of any length share a forward pass: features and mask are padded with zeros on the right,
as in training; of several captions for one picture, each by itself. Prompts of another text encoder
and latents of another VAE are errors.
"""

from collections.abc import Iterable, Mapping
from itertools import zip_longest

import comfy.conds
import comfy.model_management
import torch
import torch.nn.functional as F
from torch import Tensor


class PaddedSequence(comfy.conds.CONDRegular):
    """Conditioning (B, S, ...) that is concatenated with others of any S by padding with zeros.

    So prompt and negative prompt share one forward pass.
    """

    def can_concat(self, other: "PaddedSequence") -> bool:
        same_features = self.cond.shape[2:] == other.cond.shape[2:]
        return same_features and self.cond.device == other.cond.device

    def concat(self, others: "list[PaddedSequence]") -> Tensor:
        sequences = [self.cond, *(other.cond for other in others)]
        length = max(sequence.shape[1] for sequence in sequences)
        return torch.cat([_with_length(sequence, length, 0) for sequence in sequences])


class PaddedCaptions(PaddedSequence):
    """Captions (B, S, ...) of one picture that follow each other, padded each by itself.

    lengths: tokens of each. A prompt with fewer captions gets empty ones at the end.
    """

    def __init__(self, cond: Tensor, lengths: tuple[int, ...]) -> None:
        super().__init__(cond)
        self.lengths = lengths

    def _copy_with(self, cond: Tensor) -> "PaddedCaptions":
        return PaddedCaptions(cond, self.lengths)

    def concat(self, others: "list[PaddedCaptions]") -> Tensor:
        every = [self, *others]
        lengths = longest(item.lengths for item in every)
        return torch.cat([item._padded(lengths) for item in every])

    def _padded(self, lengths: tuple[int, ...]) -> Tensor:
        if lengths == self.lengths:
            return self.cond
        parts = list(self.cond.split(self.lengths, dim=1))
        parts += [self.cond[:, :0]] * (len(lengths) - len(parts))
        return torch.cat(
            [_with_length(part, n, 0) for part, n in zip(parts, lengths, strict=True)], dim=1
        )


class CaptionLengths(comfy.conds.CONDConstant):
    """The lengths of captions; together with others, those to which `PaddedCaptions` are padded."""

    def can_concat(self, other: "CaptionLengths") -> bool:
        return True

    def concat(self, others: "list[CaptionLengths]") -> tuple[int, ...]:
        return longest(item.cond for item in [self, *others])


def longest(lengths: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The most tokens that any of these has at each place."""
    return tuple(map(max, zip_longest(*lengths, fillvalue=0)))


class RegionWeights(comfy.conds.CONDNoiseShape):
    """Weights (B, R, H, W) over a latent, cut with it; together with others of any R.

    Of the latent's size and four axes, so that wrappers which cut the latent cut them as well.
    """

    def can_concat(self, other: "RegionWeights") -> bool:
        return self.cond.shape[2:] == other.cond.shape[2:]

    def concat(self, others: "list[RegionWeights]") -> Tensor:
        weights = [item.cond for item in [self, *others]]
        count = max(item.shape[1] for item in weights)
        return torch.cat([_with_length(item, count, 0) for item in weights])


class Frame(comfy.conds.CONDConstant):
    """Rows and columns of the whole latent, and of the part that a prompt acts on."""

    @classmethod
    def of(cls, latent: Tensor) -> "Frame":
        size = tuple(latent.shape[-2:])
        return cls((size, size))

    def process_cond(
        self, batch_size: int, area: list[int] | None = None, **kwargs: object
    ) -> "Frame":
        whole, _ = self.cond
        return Frame((whole, whole if area is None else tuple(area[: len(whole)])))


def _with_length(sequence: Tensor, length: int, fill: int) -> Tensor:
    missing = length - sequence.shape[1]
    if missing <= 0:
        return sequence[:, :length]
    unpadded_axes = (0, 0) * (sequence.ndim - 2)
    return F.pad(sequence, (*unpadded_axes, 0, missing), value=fill)


def caption_mask(caption: Tensor, mask: Tensor | None) -> Tensor:
    """Integer mask (B, S) of `caption` (B, S, D): 1 for a token; integer, or the host casts it.

    Nodes that join prompts lengthen the features but keep the first prompt's mask: the added
    positions count as tokens.
    """
    if mask is None:
        return torch.ones(caption.shape[:2], dtype=torch.long)
    return _with_length(mask.reshape(mask.shape[0], -1).long().cpu(), caption.shape[1], 1)


def without_text(dim: int) -> Tensor:
    """A caption (1, 1, dim) that says nothing: attention to its zeros adds nothing to a picture."""
    return torch.zeros(1, 1, dim, device=comfy.model_management.intermediate_device())


def check_latent(latent: Tensor, channels: int) -> None:
    """Raise ValueError for a latent (B, C, H, W) of another kind of VAE than the model's."""
    if latent.ndim != 4 or latent.shape[1] != channels:
        raise ValueError(
            f"The LATENT has the shape {tuple(latent.shape)}, a Lumina-Next model needs "
            f"{channels} channels of rows and columns. It was made with the VAE of another kind "
            "of model: encode the picture with an SDXL VAE (an SD 1.5 VAE for a model trained on "
            'one), or use "Empty Latent Image".'
        )


def check_area(area: tuple[int, int, int, int] | None, latent: Tensor) -> None:
    """Raise ValueError for a prompt's area that no row or no column of the latent is in.

    area: (height, width, y, x) in rows and columns of the latent, as the host hands it on.
    """
    if area is not None and (area[2] >= latent.shape[-2] or area[3] >= latent.shape[-1]):
        raise ValueError(
            "A prompt is set to an area that lies outside the picture. Move it into the picture, "
            'where "Conditioning (Set Area)" or a node like it sets its x, y, width and height.'
        )


ENCODERS_BY_WIDTH = {  # features per token
    512: "T5-Small",
    768: "CLIP-L, or T5-Base",
    1024: "T5-Large, or OpenCLIP-H",
    2048: "Gemma-2B, or T5-XL",
    2304: "Gemma-2 2B, the one of Lumina-Image 2.0",
    2560: "Gemma-3 4B, or Qwen3-4B",
    3072: "Gemma-7B",
    4096: "T5-XXL, or LLaMA-2-7B",
    5120: "LLaMA-2-13B",
}
SDXL_POOLED_DIM = 1280


def check_caption(caption: Tensor | None, dim: int, conditioning: Mapping[str, object]) -> None:
    """Raise ValueError for a prompt of another text encoder than the model was trained with."""
    advice = 'Encode the prompt with "CLIP Text Encode" and "Load Lumina-Next Text Encoder".'
    if caption is None:
        raise ValueError(f"The CONDITIONING holds no encoded prompt. {advice}")
    width = caption.shape[-1]
    if width != dim:
        raise ValueError(
            f"The text encoder gives {width} features per token{_encoder_of(width)}; this model "
            f"was trained with {dim}{_encoder_of(dim)}. {advice}"
        )
    pooled = conditioning.get("pooled_output")
    # SDXL's two CLIPs together are as wide as Gemma-2B, but have a pooled vector.
    is_sdxl = conditioning.get("attention_mask") is None and pooled is not None
    if is_sdxl and width == 2048 and pooled.shape[-1] == SDXL_POOLED_DIM:
        raise ValueError(f"The prompt was encoded by SDXL's text encoders, not Gemma-2B. {advice}")


def _encoder_of(width: int) -> str:
    return f" ({ENCODERS_BY_WIDTH[width]})" if width in ENCODERS_BY_WIDTH else ""
