"""Text encoders as ComfyUI's CLIP; the decoder of `lumina.decoder` on the host's layers is one.

"CLIP Text Encode" then gives the hidden state that the encoder's `Rules` name and the mask of its
tokens, with the host's prompt weights, embeddings, LoRA and memory management.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import comfy.model_management
import comfy.sd1_clip
import torch
from torch import Tensor, nn

from ..lumina.prompts.rules import Rules
from ..lumina.text_encoders.config import DecoderConfig
from ..lumina.text_encoders.decoder import Decoder
from .attention import CastingRMSNorm, text_attention
from .generation import WritesText


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


class TextEncoder(WritesText, comfy.sd1_clip.SDClipModel):
    """What SDClipModel adds: tokens and embeddings mixed, masks, prompt weights, layer choice.

    network: built as network(sizes, dtype, device, operations) and called as `HostDecoder` is.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        model_options: Mapping[str, object] | None = None,
        *,
        network: type[nn.Module],
        sizes: Mapping[str, object],
        rules: Rules,
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            model_class=network,
            textmodel_json_config=dict(sizes),
            layer="hidden",
            layer_idx=rules.hidden_state,
            layer_norm_hidden_state=False,
            special_tokens=rules.special_tokens,
            enable_attention_masks=True,
            return_attention_masks=True,
            model_options=dict(model_options or {}),
        )
        management = comfy.model_management
        device = (model_options or {}).get("load_device", management.text_encoder_device())
        self.computes_on_cpu = management.is_device_cpu(device)

    def load_sd(self, sd: dict[str, Tensor]) -> tuple[list[str], list[str]]:
        """Take the tensors of `sd`; returns the missing and the unexpected names."""
        if self.computes_on_cpu:
            # They stay mapped from the file, in its types, and are cast at use. Copies would be
            # a second set of them in memory.
            return self.transformer.load_state_dict(sd, strict=False, assign=True)
        return super().load_sd(sd)


class HostTextEncoder(comfy.sd1_clip.SD1ClipModel):
    """The one-encoder model that CLIP objects hold."""

    def __init__(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        model_options: Mapping[str, object] | None = None,
        *,
        network: type[nn.Module],
        sizes: Mapping[str, object],
        rules: Rules,
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=dict(model_options or {}),
            clip_model=TextEncoder,
            name=rules.name,
            network=network,
            sizes=sizes,
            rules=rules,
        )
