"""Gemma as ComfyUI's CLIP: the decoder of `lumina.decoder` on the host's layers.

"CLIP Text Encode" then gives the last hidden state but one and the mask of its tokens, with the
host's prompt weights, embeddings, LoRA and memory management.
"""

import dataclasses
from collections.abc import Mapping

import comfy.sd1_clip
import torch
from torch import Tensor, nn

from ..lumina.decoder import Decoder, DecoderConfig
from ..lumina.prompt import HIDDEN_STATE
from .attention import CastingRMSNorm, text_attention
from .tokenizer import BEGIN, NAME, PAD


class HostGemma(nn.Module):
    """Gemma in the form that the host's SDClipModel drives."""

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
        wanted = -1 if intermediate_output is None else intermediate_output
        if wanted == "all":
            wanted = list(range(self.num_layers))
        if isinstance(wanted, list):
            states = self.model.hidden_states(embeds, attention_mask, wanted)
            out = torch.stack(states, dim=1)
        else:
            out = self.model(embeds=embeds, attention_mask=attention_mask, hidden_state=wanted)
        return out, out


class GemmaEncoder(comfy.sd1_clip.SDClipModel):
    """What SDClipModel adds: tokens and embeddings mixed, masks, prompt weights, layer choice."""

    def __init__(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        model_options: Mapping[str, object] | None = None,
        *,
        config: DecoderConfig,
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            model_class=HostGemma,
            textmodel_json_config=dataclasses.asdict(config),
            layer="hidden",
            layer_idx=HIDDEN_STATE,
            layer_norm_hidden_state=False,
            special_tokens={"start": BEGIN, "pad": PAD},
            enable_attention_masks=True,
            return_attention_masks=True,
            model_options=dict(model_options or {}),
        )


class HostTextEncoder(comfy.sd1_clip.SD1ClipModel):
    """The one-encoder model that CLIP objects hold."""

    def __init__(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        model_options: Mapping[str, object] | None = None,
        *,
        config: DecoderConfig,
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=dict(model_options or {}),
            clip_model=GemmaEncoder,
            name=NAME,
            config=config,
        )
