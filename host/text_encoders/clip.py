"""Text encoders as the model of ComfyUI's CLIP: their networks inside the host's SDClipModel.

"CLIP Text Encode" gives the hidden state that the encoder's `PromptFormat` names, and the tokens'
mask. Prompt weights, embeddings, LoRA and memory management are the host's.
"""

from collections.abc import Mapping

import comfy.model_management
import comfy.sd1_clip
import torch
from torch import Tensor, nn

from ...lumina.prompts.formats import PromptFormat
from ..checkpoints.mapped import MappedFiles
from .writing import WritesText


class TextEncoder(WritesText, comfy.sd1_clip.SDClipModel):
    """A network in SDClipModel, which does embeddings, masks, prompt weights and layer choice.

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
        """Load the tensors of `sd`; returns the missing and the unexpected names."""
        if self.computes_on_cpu:
            # They stay memory-mapped, in the file's dtypes, and are cast at use: copies would
            # double the memory.
            return self.transformer.load_state_dict(sd, strict=False, assign=True)
        return super().load_sd(sd)


class HostTextEncoder(comfy.sd1_clip.SD1ClipModel):
    """The one-encoder model that CLIP objects hold.

    files: where its weights are read from while it runs; none if they were copied.
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
            model_options=dict(model_options or {}),
            clip_model=TextEncoder,
            name=prompt_format.name,
            network=network,
            sizes=sizes,
            prompt_format=prompt_format,
        )
        self.files = MappedFiles()

    def reset_clip_options(self) -> None:
        """As the host's, which calls it before it encodes or writes, and before it loads weights.

        Raises ValueError if a file that the weights are read from was written to.
        """
        self.files.check()
        super().reset_clip_options()
