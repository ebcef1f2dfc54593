"""Recognizes a text encoder by its weights: network, sizes, renamed weights and prompt format.

Each family of models has a reader; any other model is an error. Readers also work on tensors
without data, so that a file's header is enough to check it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from ...lumina.checkpoints.config_json import ConfigJson
from ...lumina.prompts.formats import PROMPT_FORMATS, PromptFormat
from ...lumina.text_encoders import families
from ...lumina.text_encoders.t5 import t5_config, t5_to_native
from ...lumina.text_encoders.weights import decoder_config, to_native
from ..prompts.vocabulary import Tokenizer
from .networks import HostDecoder, HostT5


@dataclass(frozen=True)
class Encoder:
    """A recognized text encoder that is not built yet.

    network: built as network(sizes, dtype, device, operations); `weights` have its names.
    vocab_size: number of embeddings. width: features of an embedding. prompt_format_of: the prompt
    format as the model's tokenizer gives it; None if `prompt_format` holds for any tokenizer.
    """

    network: type[nn.Module]
    sizes: Mapping[str, object]
    weights: dict[str, Tensor]
    vocab_size: int
    width: int
    prompt_format: PromptFormat
    prompt_format_of: Callable[[Tokenizer], PromptFormat] | None = None

    def prompt_format_for(self, tokenizer: Tokenizer) -> PromptFormat:
        """The prompt format with the model's tokenizer."""
        if self.prompt_format_of is None:
            return self.prompt_format
        return self.prompt_format_of(tokenizer)


def recognize(weights: Mapping[str, Tensor], config_json: ConfigJson, *, source: str) -> Encoder:
    """The text encoder of a file's or folder's weights. config_json: its config.json, or {}.

    Raises ValueError that names `source` and what is missing, unknown or does not fit.
    """
    family = families.family_of(weights, config_json)
    return READERS[family](weights, config_json, source=source)


def _decoder(
    weights: Mapping[str, Tensor],
    config_json: ConfigJson,
    *,
    source: str,
    prompt_format: PromptFormat,
) -> Encoder:
    native = to_native(weights, config_json, source=source)
    config = decoder_config(native, config_json, source=source)
    return Encoder(
        network=HostDecoder,
        sizes=dataclasses.asdict(config),
        weights={f"model.{key}": tensor for key, tensor in native.items()},
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        prompt_format=prompt_format,
    )


def _t5(weights: Mapping[str, Tensor], config_json: ConfigJson, *, source: str) -> Encoder:
    native = t5_to_native(weights, source=source)
    config = t5_config(native)
    return Encoder(
        network=HostT5,
        sizes=dataclasses.asdict(config),
        weights=native,
        vocab_size=config.vocab_size,
        width=config.d_model,
        prompt_format=PROMPT_FORMATS["t5"],
    )


def _other(weights: Mapping[str, Tensor], config_json: ConfigJson, *, source: str) -> Encoder:
    """Any other model that transformers has built in. It needs a config.json."""
    if "model_type" not in config_json:
        raise ValueError(families.explain_unknown(weights, config_json, source))
    # Not above: transformers' models take half a second to import, and most users have none.
    from .transformers.recognition import recognize_any

    return recognize_any(weights, config_json, source=source)


# By the result of `family_of`.
READERS: dict[str | None, Callable[..., Encoder]] = {
    "gemma": partial(_decoder, prompt_format=PROMPT_FORMATS["gemma"]),
    "llama": partial(_decoder, prompt_format=PROMPT_FORMATS["llama"]),
    "t5": _t5,
    None: _other,
}
