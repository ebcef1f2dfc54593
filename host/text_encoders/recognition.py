"""From a text encoder's weights to all that makes a CLIP of them, its tokenizer apart.

Each family has a reader; what none of them knows is refused in words. A reader works on tensors
without data as well, so that a file can be refused by its header.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import comfy.ops
import torch
from torch import Tensor, nn

from ...lumina.prompts.formats import PROMPT_FORMATS, PromptFormat
from ...lumina.text_encoders import families, t5
from ...lumina.text_encoders import weights as text_encoders_weights
from ..prompts.vocabulary import Tokenizer
from .networks import HostDecoder, HostT5
from .transformers import build
from .transformers import config as transformers_config
from .transformers.network import HostTransformers

ConfigJson = Mapping[str, object]


@dataclass(frozen=True)
class Encoder:
    """A text encoder that is not built yet.

    network, built as network(sizes, dtype, device, operations), holds `weights` under their names.
    vocabulary: how many tokens it has embeddings for. width: features of one. own_rules: what they
    are once the model's own tokenizer can be asked; None where `prompt_format` stand.
    """

    network: type[nn.Module]
    sizes: Mapping[str, object]
    weights: dict[str, Tensor]
    vocabulary: int
    width: int
    prompt_format: PromptFormat
    prompt_format_of: Callable[[Tokenizer], PromptFormat] | None = None

    def prompt_format_with(self, tokenizer: Tokenizer) -> PromptFormat:
        return (
            self.prompt_format
            if self.prompt_format_of is None
            else self.prompt_format_of(tokenizer)
        )


def recognize(weights: Mapping[str, Tensor], config_json: ConfigJson, *, source: str) -> Encoder:
    """What the weights of a file or folder are; config_json: its own, or nothing.

    Raises ValueError that names `source` and what is missing, unknown or does not fit.
    """
    family = families.family_of(weights, config_json)
    encoder = READERS[family](weights, config_json, source=source)
    _check_shapes(encoder, source)
    return encoder


def _decoder(
    weights: Mapping[str, Tensor],
    config_json: ConfigJson,
    *,
    source: str,
    prompt_format: PromptFormat,
) -> Encoder:
    native = text_encoders_weights.to_native(weights, config_json, source=source)
    config = text_encoders_weights.decoder_config(native, config_json, source=source)
    return Encoder(
        network=HostDecoder,
        sizes=dataclasses.asdict(config),
        weights={f"model.{key}": tensor for key, tensor in native.items()},
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        prompt_format=prompt_format,
    )


def _t5(weights: Mapping[str, Tensor], config_json: ConfigJson, *, source: str) -> Encoder:
    native = t5.t5_to_native(weights, source=source)
    config = t5.t5_config(native)
    return Encoder(
        network=HostT5,
        sizes=dataclasses.asdict(config),
        weights=native,
        vocabulary=config.vocab_size,
        width=config.d_model,
        prompt_format=PROMPT_FORMATS["t5"],
    )


def _other(weights: Mapping[str, Tensor], config_json: ConfigJson, *, source: str) -> Encoder:
    """A model that only transformers knows, and only by its config.json."""
    if "model_type" not in config_json:
        raise ValueError(families.explain_unknown(weights, config_json, source))
    config = transformers_config.read_config(config_json, source=f"config.json of {source}")
    text = build.build(config, source=f"config.json of {source}")
    native = text.to_native(weights, source=source)
    return Encoder(
        network=HostTransformers,
        sizes=config_json,
        weights={f"model.{key}": tensor for key, tensor in native.items()},
        vocabulary=text.vocabulary,
        width=text.width,
        prompt_format=transformers_config.prompt_format(config, None),
        prompt_format_of=lambda tokenizer: transformers_config.prompt_format(
            config, tokenizer.with_special_tokens
        ),
    )


# By what `family_of` says.
READERS: dict[str | None, Callable[..., Encoder]] = {
    "gemma": partial(_decoder, prompt_format=PROMPT_FORMATS["gemma"]),
    "llama": partial(_decoder, prompt_format=PROMPT_FORMATS["llama"]),
    "t5": _t5,
    None: _other,
}


def _check_shapes(encoder: Encoder, source: str) -> None:
    """Raise ValueError for a tensor that does not fit; the host may take it and fail much later."""
    empty = encoder.network(
        encoder.sizes, torch.float32, torch.device("meta"), comfy.ops.manual_cast
    )
    for key, example in empty.state_dict().items():
        found = encoder.weights[key]
        is_packed = found.dtype == torch.uint8
        if found.shape != example.shape and not is_packed:
            raise ValueError(
                f'{source} does not fit together: "{key}" is {tuple(found.shape)} where the rest '
                f"of the file asks for {tuple(example.shape)}. Download it again."
            )
