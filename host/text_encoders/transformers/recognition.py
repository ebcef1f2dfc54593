"""Recognizes a text encoder by its config.json: any model that transformers has built in."""

from collections.abc import Mapping

from torch import Tensor

from ....lumina.checkpoints.config_json import ConfigJson
from ..recognition import Encoder
from .build import build
from .config import prompt_format, read_config
from .network import TEXT_MODEL, HostTransformers


def recognize_any(
    weights: Mapping[str, Tensor], config_json: ConfigJson, *, source: str
) -> Encoder:
    """The text encoder of a file's or folder's weights. config_json: its config.json.

    Raises ValueError that names `source` and what is missing, unknown or does not fit.
    """
    config = read_config(config_json, source=f"config.json of {source}")
    text = build(config, source=f"config.json of {source}")
    native = text.to_native(weights, source=source)
    return Encoder(
        network=HostTransformers,
        sizes={TEXT_MODEL: text},
        weights={f"model.{key}": tensor for key, tensor in native.items()},
        vocab_size=text.vocab_size,
        width=text.width,
        prompt_format=prompt_format(config, None),
        prompt_format_of=lambda tokenizer: prompt_format(config, tokenizer.with_special_tokens),
    )
