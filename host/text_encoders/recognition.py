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

from ...lumina.prompts.rules import RULES, Rules
from ...lumina.text_encoders import families, t5
from ...lumina.text_encoders import weights as text_encoders_weights
from ..prompts.vocabulary import Tokens
from .networks import HostDecoder, HostT5
from .transformers import build
from .transformers import config as transformers_config
from .transformers.network import HostTransformers

Stated = Mapping[str, object]


@dataclass(frozen=True)
class Encoder:
    """A text encoder that is not built yet.

    network, built as network(sizes, dtype, device, operations), holds `weights` under their names.
    vocabulary: how many tokens it has embeddings for. width: features of one. own_rules: what they
    are once the model's own tokenizer can be asked; None where `rules` stand.
    """

    network: type[nn.Module]
    sizes: Mapping[str, object]
    weights: dict[str, Tensor]
    vocabulary: int
    width: int
    rules: Rules
    own_rules: Callable[[Tokens], Rules] | None = None

    def rules_with(self, tokens: Tokens) -> Rules:
        return self.rules if self.own_rules is None else self.own_rules(tokens)


def recognise(weights: Mapping[str, Tensor], stated: Stated, *, source: str) -> Encoder:
    """What the weights of a file or folder are; stated: its config.json, or nothing.

    Raises ValueError that names `source` and what is missing, unknown or does not fit.
    """
    family = families.family_of(weights, stated)
    encoder = READERS[family](weights, stated, source=source)
    _check_shapes(encoder, source)
    return encoder


def _decoder(
    weights: Mapping[str, Tensor], stated: Stated, *, source: str, rules: Rules
) -> Encoder:
    native = text_encoders_weights.to_native(weights, stated, source=source)
    config = text_encoders_weights.decoder_config(native, stated, source=source)
    return Encoder(
        network=HostDecoder,
        sizes=dataclasses.asdict(config),
        weights={f"model.{key}": tensor for key, tensor in native.items()},
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        rules=rules,
    )


def _t5(weights: Mapping[str, Tensor], stated: Stated, *, source: str) -> Encoder:
    native = t5.t5_to_native(weights, source=source)
    config = t5.t5_config(native)
    return Encoder(
        network=HostT5,
        sizes=dataclasses.asdict(config),
        weights=native,
        vocabulary=config.vocab_size,
        width=config.d_model,
        rules=RULES["t5"],
    )


def _other(weights: Mapping[str, Tensor], stated: Stated, *, source: str) -> Encoder:
    """A model that only transformers knows, and only by its config.json."""
    if "model_type" not in stated:
        raise ValueError(families.explain_unknown(weights, stated, source))
    config = transformers_config.read_config(stated, source=f"config.json of {source}")
    text = build.build(config, source=f"config.json of {source}")
    native = text.to_native(weights, source=source)
    return Encoder(
        network=HostTransformers,
        sizes=stated,
        weights={f"model.{key}": tensor for key, tensor in native.items()},
        vocabulary=text.vocabulary,
        width=text.width,
        rules=transformers_config.rules(config, None),
        own_rules=lambda tokens: transformers_config.rules(config, tokens.whole),
    )


# By what `family_of` says.
READERS: dict[str | None, Callable[..., Encoder]] = {
    "gemma": partial(_decoder, rules=RULES["gemma"]),
    "llama": partial(_decoder, rules=RULES["llama"]),
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
