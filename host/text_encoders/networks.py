"""The text encoders' networks on ComfyUI's layers, with the interface that SDClipModel calls.

The decoder of `lumina.text_encoders` (Gemma-1, LLaMA-2), and the host's own T5. Hidden states are
numbered as transformers' `hidden_states` in both.
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
    """Gemma or LLaMA with the interface that the host's SDClipModel calls.

    sizes: the fields of a DecoderConfig, and others that the host adds.
    """

    def __init__(
        self,
        sizes: Mapping[str, object],
        dtype: torch.dtype | None,
        device: torch.device | None,
        operations: type,
    ) -> None:
        super().__init__()
        names = {item.name for item in dataclasses.fields(DecoderConfig)}
        config = DecoderConfig(**{name: sizes[name] for name in names})
        self.model = Decoder(
            config,
            ops=operations,
            attention=text_attention,
            norm=CastingRMSNorm,
            dtype=dtype,
            device=device,
        )
        # The host counts hidden states by this number: one more than there are layers.
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
        """The hidden state (B, S, D) twice, for SDClipModel takes a pair (output, intermediate).

        intermediate_output: the state's number as in transformers' `hidden_states`; None is the
        output. The states of a list, or of "all", are stacked along a new second axis.
        """

        def states(numbers: list[int]) -> Sequence[Tensor]:
            return self.model.hidden_states(embeds, attention_mask, numbers)

        return as_pair(intermediate_output, self.num_layers, states)


class HostT5(T5):
    """T5's encoder with the interface that the host's SDClipModel calls.

    sizes: the fields of a `lumina.text_encoders.t5.T5Config`.
    """

    def __init__(
        self,
        sizes: Mapping[str, object],
        dtype: torch.dtype | None,
        device: torch.device | None,
        operations: type,
    ) -> None:
        is_gated = sizes["is_gated"]
        variant = {
            "model_type": "t5",
            "is_gated_act": is_gated,
            "dense_act_fn": "gelu_pytorch_tanh" if is_gated else "relu",
        }
        super().__init__({**sizes, **variant}, dtype, device, operations)
        for module in self.modules():
            if isinstance(module, T5LayerNorm):
                module.float()  # 8 bits would lose much of it, and it is tiny
        # The host counts hidden states by this number: one more than there are layers.
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
        """As `HostDecoder.forward`."""

        def states(numbers: list[int]) -> list[Tensor]:
            return [self._state(n % self.num_layers, embeds, attention_mask) for n in numbers]

        return as_pair(intermediate_output, self.num_layers, states)

    def _state(self, number: int, embeds: Tensor, attention_mask: Tensor | None) -> Tensor:
        if number == 0:
            return embeds
        is_output = number == self.num_layers - 1
        output, state = super().forward(
            None,
            attention_mask,
            embeds=embeds.clone(),  # T5 adds to them in place
            intermediate_output=None if is_output else number - 1,
            final_layer_norm_intermediate=False,
        )
        return output if is_output else state


def as_pair(
    numbers: int | list[int] | str | None,
    count: int,
    states: Callable[[list[int]], Sequence[Tensor]],
) -> tuple[Tensor, Tensor]:
    """The return value of `HostDecoder.forward`, for a network of `count` hidden states.

    numbers: its `intermediate_output`. states: computes the hidden states of these numbers.
    """
    if numbers == "all":
        numbers = list(range(count))
    if isinstance(numbers, list):
        out = torch.stack(tuple(states(numbers)), dim=1)
    else:
        (out,) = states([-1 if numbers is None else numbers])
    return out, out
