"""The text encoders' networks on ComfyUI's layers, in the form that its SDClipModel drives.

The decoder of `lumina.text_encoders` (Gemma-1, LLaMA-2), and the host's own T5. States are numbered
as transformers' `hidden_states` in both.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from comfy.text_encoders.t5 import T5, T5LayerNorm
from torch import Tensor, nn

from ...lumina.text_encoders.config import DecoderConfig
from ...lumina.text_encoders.decoder import Decoder
from ..model.ops import CastingRMSNorm, text_attention


class HostDecoder(nn.Module):
    """Gemma or LLaMA in the form that the host's SDClipModel drives.

    sizes: fields of a DecoderConfig, and whatever the host adds to them.
    """

    def __init__(
        self,
        sizes: Mapping[str, object],
        dtype: torch.dtype | None,
        device: torch.device | None,
        operations: type,
    ) -> None:
        super().__init__()
        known = {item.name for item in dataclasses.fields(DecoderConfig)}
        config = DecoderConfig(**{name: sizes[name] for name in known})
        self.model = Decoder(
            config,
            ops=operations,
            attention=text_attention,
            norm=CastingRMSNorm,
            dtype=dtype,
            device=device,
        )
        # One state more than there are layers: the host asks for states by this number.
        self.num_layers = config.layers + 1

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def forward(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        *,
        embeds: Tensor,
        intermediate_output: int | list[int] | str | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor]:
        """(output, hidden state): the one state that was asked for, in both places.

        intermediate_output: a number as in transformers' `hidden_states`; None is the output.
        A list of them, or "all", is stacked along a new second axis.
        """

        def states(numbers: list[int]) -> Sequence[Tensor]:
            return self.model.hidden_states(embeds, attention_mask, numbers)

        return as_host_expects(intermediate_output, self.num_layers, states)


class HostT5(T5):
    """T5's encoder in the form that the host's SDClipModel drives.

    sizes: fields of a `lumina.text_encoders.t5.T5Config`.
    """

    def __init__(
        self,
        sizes: Mapping[str, object],
        dtype: torch.dtype | None,
        device: torch.device | None,
        operations: type,
    ) -> None:
        is_gated = sizes["is_gated"]
        kind = {
            "model_type": "t5",
            "is_gated_act": is_gated,
            "dense_act_fn": "gelu_pytorch_tanh" if is_gated else "relu",
        }
        super().__init__({**sizes, **kind}, dtype, device, operations)
        for module in self.modules():
            if isinstance(module, T5LayerNorm):
                module.float()  # 8 bits would lose much of it, and it is next to nothing in size
        # One state more than there are layers: the host asks for states by this number.
        self.num_layers += 1

    def forward(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        *,
        embeds: Tensor,
        intermediate_output: int | list[int] | str | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor]:
        """(output, hidden state): as `HostDecoder.forward`."""

        def states(numbers: list[int]) -> list[Tensor]:
            places = (number % self.num_layers for number in numbers)
            return [self._state(place, embeds, attention_mask) for place in places]

        return as_host_expects(intermediate_output, self.num_layers, states)

    def _state(self, number: int, embeds: Tensor, attention_mask: Tensor | None) -> Tensor:
        if number == 0:
            return embeds
        is_output = number == self.num_layers - 1
        output, state = super().forward(
            None,
            attention_mask,
            embeds=embeds.clone(),  # the host adds to it in place
            intermediate_output=None if is_output else number - 1,
            final_layer_norm_intermediate=False,
        )
        return output if is_output else state


def as_host_expects(
    wanted: int | list[int] | str | None,
    count: int,
    states: Callable[[list[int]], Sequence[Tensor]],
) -> tuple[Tensor, Tensor]:
    """What a network of `count` hidden states returns to SDClipModel, as `HostDecoder.forward`."""
    if wanted == "all":
        wanted = list(range(count))
    if isinstance(wanted, list):
        out = torch.stack(tuple(states(wanted)), dim=1)
    else:
        (out,) = states([-1 if wanted is None else wanted])
    return out, out
