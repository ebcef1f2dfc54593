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
from .token_table import TokenTable, casting_tied_head


class NumberedStates:
    """The way SDClipModel calls a network, for one that computes hidden states by their numbers.

    A network defines `states` and sets `num_layers`, by which the host counts hidden states: one
    more than there are layers.
    """

    num_layers: int
    states: Callable[[Sequence[int], Tensor, Tensor | None], Sequence[Tensor]]

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
        numbers = intermediate_output
        if numbers == "all":
            numbers = list(range(self.num_layers))
        if isinstance(numbers, list):
            out = torch.stack(tuple(self.states(numbers, embeds, attention_mask)), dim=1)
        else:
            (out,) = self.states([-1 if numbers is None else numbers], embeds, attention_mask)
        return out, out


class HostDecoder(NumberedStates, nn.Module):
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
            tied_head=casting_tied_head,
            dtype=dtype,
            device=device,
        )
        self.num_layers = config.layers + 1

    def get_input_embeddings(self) -> TokenTable:
        return TokenTable(self.model.embed_tokens)

    def states(
        self, numbers: Sequence[int], embeds: Tensor, attention_mask: Tensor | None
    ) -> Sequence[Tensor]:
        """Hidden states (B, S, D) of these numbers."""
        return self.model.hidden_states(embeds, attention_mask, numbers)


class HostT5(NumberedStates, T5):
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
        self.num_layers += 1

    def get_input_embeddings(self) -> TokenTable:
        return TokenTable(super().get_input_embeddings())

    def states(
        self, numbers: Sequence[int], embeds: Tensor, attention_mask: Tensor | None
    ) -> Sequence[Tensor]:
        """Hidden states (B, S, D) of these numbers."""
        return [self._state(n % self.num_layers, embeds, attention_mask) for n in numbers]

    def _state(self, number: int, embeds: Tensor, attention_mask: Tensor | None) -> Tensor:
        if number == 0:
            return embeds
        is_output = number == self.num_layers - 1
        output, state = T5.forward(
            self,
            None,
            attention_mask,
            embeds=embeds.clone(),  # T5 adds to them in place
            intermediate_output=None if is_output else number - 1,
            final_layer_norm_intermediate=False,
        )
        return output if is_output else state
