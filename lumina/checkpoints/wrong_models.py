"""Recognizes other models by their weights' names, and says which node loads them.

Names may have any prefix. The table's order matters: the first pattern that matches a name of the
file decides.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class OtherModel:
    """A model that none of the loaders here takes. name completes "It is ..."."""

    name: str
    advice: str


def identify(keys: Iterable[str]) -> OtherModel | None:
    """The other model that these keys belong to; None for one of ours or an unknown one."""
    joined = "\n".join(keys)
    for pattern, model in _MODELS:
        if pattern.search(joined):
            return model
    return None


_LOAD_MODEL = 'Load it with ComfyUI\'s "Load Diffusion Model".'
_LOAD_CHECKPOINT = 'Load it with ComfyUI\'s "Load Checkpoint", or "Load Diffusion Model".'
_NOT_TEXT_TO_IMAGE = "It does not make pictures from text, and no node here loads it."

_TABLE: tuple[tuple[str, OtherModel | None], ...] = (
    (
        r"lora_(up|down|A|B)\b|\.lora\.(up|down)\.|\.(hada|lokr)_w1|\.diff(_b)?$",
        OtherModel(
            "a LoRA, which changes a model but is not one",
            'Load the model that it was made for here; the LoRA goes into "Load Lumina-Next LoRA".',
        ),
    ),
    (
        r"(context|noise)_refiner\.",
        OtherModel("Lumina-Image 2.0, Z-Image or a relative of them", _LOAD_MODEL),
    ),
    (
        r"feed_forward(_time|_space)?\.experts\.",
        OtherModel("a mixture-of-experts Next-DiT for ImageNet classes", _NOT_TEXT_TO_IMAGE),
    ),
    (
        r"y_embedder\.embedding_table\.",
        OtherModel("a DiT for ImageNet classes", _NOT_TEXT_TO_IMAGE),
    ),
    (
        r"\bblocks\.\d+\.attention\.wk_y\.",
        OtherModel("Lumina-T2Music or Lumina-T2Audio, which make sound", _NOT_TEXT_TO_IMAGE),
    ),
    # A Next-DiT or Flag-DiT, perhaps with the text encoder and the VAE it was saved with.
    (r"\blayers\.\d+\.(attention\.wk_y|norm1_context)\.weight$", None),
    (r"\bjoint_blocks\.\d+\.", OtherModel("Stable Diffusion 3", _LOAD_CHECKPOINT)),
    (
        r"\bdouble_blocks\.\d+\.|\bsingle_transformer_blocks\.\d+\.",
        OtherModel("Flux or a relative of it", _LOAD_MODEL),
    ),
    (
        r"\blabel_emb\.0\.|\badd_embedding\.linear_1\.",
        OtherModel("Stable Diffusion XL", _LOAD_CHECKPOINT),
    ),
    (
        r"\binput_blocks\.\d+\.|^(unet\.)?down_blocks\.\d+\.",
        OtherModel("Stable Diffusion 1 or 2, or another U-Net", _LOAD_CHECKPOINT),
    ),
    (
        r"\btransformer_blocks\.\d+\.",
        OtherModel("another diffusion transformer in diffusers format", _LOAD_MODEL),
    ),
    (
        r"\b(embed_tokens|tok_embeddings|token_embedding)\.weight$|\blayers\.\d+\.self_attn\."
        r"|\bencoder\.block\.\d+\.layer\.|^shared\.weight$",
        OtherModel(
            "a text encoder",
            'Load Gemma with "Load Lumina-Next Text Encoder", any other with "Load CLIP".',
        ),
    ),
    (r"\bdecoder\.conv_in\.", OtherModel("a VAE", 'Load it with ComfyUI\'s "Load VAE".')),
)
_MODELS = tuple((re.compile(pattern, re.MULTILINE), model) for pattern, model in _TABLE)
