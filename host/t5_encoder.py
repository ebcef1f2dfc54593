"""T5 as ComfyUI's CLIP: the host's own network, told sizes, its states numbered as everywhere."""

from collections.abc import Mapping

import torch
from comfy.text_encoders.t5 import T5, T5LayerNorm
from torch import Tensor

from .text_encoder import as_host_expects


class HostT5(T5):
    """T5's encoder in the form that the host's SDClipModel drives.

    sizes: fields of a `lumina.t5_checkpoints.T5Config`.
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
