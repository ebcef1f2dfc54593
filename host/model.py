"""Next-DiT as ComfyUI's BaseModel. The only file that knows both conventions.

The host: sigma 1 noise, 0 picture; a flow model returns noise - picture. Lumina: t = 1 - sigma,
velocity = picture - noise. Hence t = 1 - sigma and a sign; nothing else differs.
"""

import dataclasses
from collections.abc import Mapping

import comfy.conds
import comfy.latent_formats
import comfy.ldm.common_dit
import comfy.model_base
import comfy.model_prefetch
import comfy.patcher_extension
import comfy.supported_models_base
import torch
import torch.nn.functional as F
from torch import Tensor

from ..lumina import key_names, prompt
from ..lumina.config import NextDiTConfig
from ..lumina.model import Block, NextDiT
from .attention import CastingHeadGate, image_attention, rotate
from .options import HostForwardOptions, Step, forward_options, patches, positions

# The host's figure for Lumina-Image 2.0, which has the width and patches of Lumina-Next 2B.
MEMORY_USAGE_FACTOR = 1.4
MEMORY_USAGE_DIM = 2304


class HostNextDiT(NextDiT):
    """Next-DiT on the host's layers, called the way the host calls its diffusion models."""

    def __init__(
        self,
        *,
        dtype: torch.dtype,
        device: torch.device | None,
        operations: type,
        image_model: str,
        **sizes: object,
    ) -> None:
        super().__init__(
            NextDiTConfig(**sizes),
            ops=operations,
            attention=image_attention,
            rotate=rotate,
            gate=CastingHeadGate,
            device=device,
            dtype=dtype,
        )
        self.dtype = dtype
        self.in_channels = self.config.in_channels
        self.patch_size = self.config.patch_size

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        attention_mask: Tensor | None = None,
        **kwargs: object,
    ) -> Tensor:
        """noise - picture (B, C, H, W) of the latent `x` at sigma `timesteps` (B,)."""
        wrappers = comfy.patcher_extension.get_all_wrappers(
            comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL,
            kwargs.get("transformer_options", {}),
        )
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(
            self._forward, self, wrappers
        )
        return executor.execute(x, timesteps, context, attention_mask, **kwargs)

    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        attention_mask: Tensor | None = None,
        options: HostForwardOptions | None = None,
        transformer_options: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> Tensor:
        height, width = x.shape[-2:]
        x = comfy.ldm.common_dit.pad_to_patch_size(x, (self.patch_size, self.patch_size))
        own = dict(transformer_options or {}, total_blocks=len(self.layers), block_type="double")
        options = dataclasses.replace(
            options or HostForwardOptions(), transformer_options=own, latent=x
        )
        velocity = super().forward(x, 1.0 - timesteps, context, attention_mask, options)
        return -velocity[:, :, :height, :width]

    def run_blocks(
        self,
        x: Tensor,
        caption: Tensor,
        mask: Tensor | None,
        condition: Tensor,
        options: HostForwardOptions,
    ) -> Tensor:
        """All layers in order, each fetched ahead of use and open to other nodes' patches."""
        host, first = options.transformer_options, x
        queue = comfy.model_prefetch.make_prefetch_queue(list(self.layers), x.device, host)
        for index, block in enumerate(self.layers):
            comfy.model_prefetch.prefetch_queue_pop(queue, x.device, block)
            host["block_index"] = index
            seen = {
                "img": x,
                "img_input": first,
                "txt": caption,
                "vec": condition,
                "pe": options.rotation,
                "attn_mask": mask,
                "x": options.latent,
                "block_index": index,
                "transformer_options": host,
            }
            x = _run_block(block, seen, options)
        comfy.model_prefetch.prefetch_queue_pop(queue, x.device, None)
        return x


def _run_block(block: Block, seen: dict[str, object], options: HostForwardOptions) -> Tensor:
    """One layer between the patches of other nodes, which read and return dicts like `seen`."""
    host, index = options.transformer_options, seen["block_index"]

    def original(args: Mapping[str, object]) -> dict[str, object]:
        out = block(args["img"], args["txt"], args["attn_mask"], args["vec"], options)
        return {"img": out, "txt": args["txt"]}

    replacement = host.get("patches_replace", {}).get("dit", {}).get(("double_block", index))
    out = replacement(seen, {"original_block": original}) if replacement else original(seen)
    for patch in patches(host, "double_block"):
        out = {**out, **patch({**seen, "img": out["img"]})}
    return out["img"]


class PaddedSequence(comfy.conds.CONDRegular):
    """Conditioning (B, S, ...) that joins others of any length by padding with zeros.

    This is what lets prompt and negative prompt share one forward pass.
    """

    def can_concat(self, other: "PaddedSequence") -> bool:
        same_features = self.cond.shape[2:] == other.cond.shape[2:]
        return same_features and self.cond.device == other.cond.device

    def concat(self, others: "list[PaddedSequence]") -> Tensor:
        sequences = [self.cond, *(other.cond for other in others)]
        length = max(sequence.shape[1] for sequence in sequences)
        return torch.cat([_with_length(sequence, length, 0) for sequence in sequences])


def _with_length(sequence: Tensor, length: int, fill: int) -> Tensor:
    missing = length - sequence.shape[1]
    if missing <= 0:
        return sequence[:, :length]
    unpadded_axes = (0, 0) * (sequence.ndim - 2)
    return F.pad(sequence, (*unpadded_axes, 0, missing), value=fill)


def caption_mask(caption: Tensor, mask: Tensor | None) -> Tensor:
    """Integer mask (B, S) of `caption` (B, S, D): 1 for a token; integer, or the host casts it.

    Nodes that join prompts lengthen the features and leave the mask of the first: what was added
    counts as tokens.
    """
    if mask is None:
        return torch.ones(caption.shape[:2], dtype=torch.long)
    return _with_length(mask.reshape(mask.shape[0], -1).long().cpu(), caption.shape[1], 1)


class LuminaNext(comfy.model_base.BaseModel):
    """A loaded Lumina-Next model: what MODEL carries in the editor."""

    def __init__(
        self, model_config: "LuminaNextConfig", device: torch.device | None = None
    ) -> None:
        flow = comfy.model_base.ModelType.FLOW
        super().__init__(model_config, flow, device=device, unet_model=HostNextDiT)

    def process_timestep(self, timestep: Tensor, **kwargs: object) -> Tensor:
        """Sigma again: nodes that change the shift scale it by 1 or by 1000."""
        return timestep / getattr(self.model_sampling, "multiplier", 1.0)

    def extra_conds(self, **kwargs: object) -> dict[str, comfy.conds.CONDRegular]:
        """What each prompt brings to a forward pass, in the forms the host batches."""
        config, noise = self.diffusion_model.config, kwargs["noise"]
        caption = kwargs.get("cross_attn")
        check_latent(noise, config.in_channels)
        check_caption(caption, config.caption_dim, kwargs)
        # The mask stays on the CPU: `_apply_model` looks at its values at every step.
        mask = caption_mask(caption, kwargs.get("attention_mask"))
        return {
            "c_crossattn": PaddedSequence(caption),
            "attention_mask": PaddedSequence(mask),
            "frame": comfy.conds.CONDConstant(tuple(noise.shape[-2:])),
        }

    def _apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: object = None,
        transformer_options: Mapping[str, object] | None = None,
        *,
        attention_mask: Tensor | None = None,
        frame: tuple[int, int] | None = None,
        **kwargs: object,
    ) -> Tensor:
        transformer_options = transformer_options or {}
        step = self._step(x, t, frame or tuple(x.shape[-2:]), transformer_options)
        options = forward_options(step, transformer_options)
        return super()._apply_model(
            x,
            t,
            c_concat,
            c_crossattn,
            control,
            transformer_options,
            attention_mask=prompt.padding_mask(attention_mask),
            options=HostForwardOptions.of(options),
            **kwargs,
        )

    def _step(
        self,
        x: Tensor,
        sigma: Tensor,
        frame: tuple[int, int],
        transformer_options: Mapping[str, object],
    ) -> Step:
        size, config = self.diffusion_model.patch_size, self.diffusion_model.config
        height, width, *frame_tokens = (-(-n // size) for n in (*x.shape[-2:], *frame))
        rows, columns = positions(height, width, transformer_options)
        return Step(sigma, rows, columns, tuple(frame_tokens), config.head_dim, x.device)

    def load_model_weights(
        self, sd: dict[str, Tensor], unet_prefix: str = "", assign: bool = False
    ) -> "LuminaNext":
        """Fill the network. Raises ValueError that names a missing, unknown or misshapen key."""
        own = [key for key in sd if key.startswith(unet_prefix)]
        weights = {key.removeprefix(unet_prefix): sd.pop(key) for key in own}
        weights = self.model_config.process_unet_state_dict(weights)
        try:
            found = self.diffusion_model.load_state_dict(weights, strict=False, assign=assign)
        except RuntimeError as error:  # torch: a tensor of another shape than the network's
            raise ValueError(f"The Lumina-Next weights do not fit together: {error}") from error
        if found.missing_keys:
            raise ValueError(f'"{found.missing_keys[0]}" is missing from the Lumina-Next weights.')
        if found.unexpected_keys:
            raise ValueError(
                f'"{found.unexpected_keys[0]}" in the weights is no part of a Lumina-Next model.'
            )
        return self


def check_latent(latent: Tensor, channels: int) -> None:
    """Raise ValueError for a latent that no VAE of this model's family made."""
    if latent.ndim != 4 or latent.shape[1] != channels:
        raise ValueError(
            f"The LATENT has the shape {tuple(latent.shape)}, a Lumina-Next model needs "
            f"{channels} channels of rows and columns. It was made with the VAE of another kind "
            "of model: encode the picture with an SDXL VAE (an SD 1.5 VAE for a model trained on "
            'one), or use "Empty Latent Image".'
        )


TEXT_ENCODERS = {
    768: "CLIP-L, or T5-Base",
    1024: "T5-Large, or OpenCLIP-H",
    2048: "Gemma-2B",
    2304: "Gemma-2 2B, the one of Lumina-Image 2.0",
    2560: "Gemma-3 4B, or Qwen3-4B",
    3072: "Gemma-7B",
    4096: "T5-XXL, or LLaMA-2-7B",
}
SDXL_POOLED_DIM = 1280


def check_caption(caption: Tensor | None, dim: int, conditioning: Mapping[str, object]) -> None:
    """Raise ValueError for a prompt that another text encoder wrote than the model's own."""
    advice = 'Encode the prompt with "CLIP Text Encode" and "Load Lumina-Next Text Encoder".'
    if caption is None:
        raise ValueError(f"The CONDITIONING holds no encoded prompt. {advice}")
    found = caption.shape[-1]
    if found != dim:
        raise ValueError(
            f"The text encoder gives {found} features per token{_guess(found)}; this model was "
            f"trained with {dim}{_guess(dim)}. {advice}"
        )
    pooled = conditioning.get("pooled_output")
    # SDXL's two CLIPs together are as wide as Gemma-2B; its pooled vector gives them away.
    is_sdxl = conditioning.get("attention_mask") is None and pooled is not None
    if is_sdxl and found == 2048 and pooled.shape[-1] == SDXL_POOLED_DIM:
        raise ValueError(f"The prompt was encoded by SDXL's text encoders, not Gemma-2B. {advice}")


def _guess(dim: int) -> str:
    return f" ({TEXT_ENCODERS[dim]})" if dim in TEXT_ENCODERS else ""


class LuminaNextConfig(comfy.supported_models_base.BASE):
    """What the host asks about a model before and beside running it."""

    unet_config = {"image_model": "lumina_next"}
    unet_extra_config = {}
    sampling_settings = {"multiplier": 1.0, "shift": 1.0}
    latent_format = comfy.latent_formats.SDXL
    supported_inference_dtypes = [torch.bfloat16, torch.float32]
    vae_key_prefix = ["vae."]
    text_encoder_key_prefix = ["text_encoders."]

    def __init__(
        self,
        config: NextDiTConfig,
        latent_format: type[comfy.latent_formats.LatentFormat] = comfy.latent_formats.SDXL,
    ) -> None:
        super().__init__({**self.unet_config, **dataclasses.asdict(config)})
        self.latent_format = latent_format()
        self.memory_usage_factor = MEMORY_USAGE_FACTOR * config.dim / MEMORY_USAGE_DIM

    def model_type(
        self, state_dict: dict[str, Tensor], prefix: str = ""
    ) -> comfy.model_base.ModelType:
        return comfy.model_base.ModelType.FLOW

    def inpaint_model(self) -> bool:
        return False

    def get_model(
        self,
        state_dict: dict[str, Tensor],
        prefix: str = "",
        device: torch.device | None = None,
    ) -> LuminaNext:
        return LuminaNext(self, device=device)

    def process_unet_state_dict(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        return key_names.to_module_keys(state_dict)

    def process_unet_state_dict_for_saving(
        self, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The network's names -> the released ones, under the host's prefix."""
        return super().process_unet_state_dict_for_saving(key_names.to_file_keys(state_dict))
