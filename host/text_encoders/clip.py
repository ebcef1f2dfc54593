"""Text encoders as ComfyUI's CLIP.

"CLIP Text Encode" then gives the hidden state that the encoder's `PromptFormat` names and the mask
of its tokens, with the host's prompt weights, embeddings, LoRA and memory management.
"""

from collections.abc import Mapping

import comfy.model_management
import comfy.sd1_clip
import torch
from torch import Tensor, nn

from ...lumina.prompts.formats import PromptFormat
from .writing import WritesText


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
        prompt_format: PromptFormat,
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            model_class=network,
            textmodel_json_config=dict(sizes),
            layer="hidden",
            layer_idx=prompt_format.hidden_state,
            layer_norm_hidden_state=False,
            special_tokens=prompt_format.special_tokens,
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
        prompt_format: PromptFormat,
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=dict(model_options or {}),
            clip_model=TextEncoder,
            name=prompt_format.name,
            network=network,
            sizes=sizes,
            prompt_format=prompt_format,
        )
