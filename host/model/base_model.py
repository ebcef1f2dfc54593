"""The networks as ComfyUI's BaseModel and model config, which surround the network in `network.py`.

They prepare each call's conditioning and options, load and save weights, and tell the host about
latents, sampling, dtypes and memory.
"""

import dataclasses

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.supported_models_base
import torch
from torch import Tensor

from ...lumina.checkpoints import key_names, strict
from ...lumina.config import DiTConfig
from ...lumina.model.caption import padding_mask
from ...lumina.options.step import Step
from ..checkpoints.mapped import MappedFiles
from ..options.settings import IMAGE_MODELS, forward_options
from ..options.step_cache import cached_call
from .conditioning import Frame, check_area, check_caption, check_latent, without_text
from .finite import check_drawn, check_given
from .network import NETWORKS
from .ops import Options, attention_may_branch, attention_shares_heads, tokens_at_once
from .regions import caption_shares, regional_conds, regions_of
from .transformer_options import HostForwardOptions, check_no_positions, frame_of, positions

# Over the activations themselves: for captions, RoPE tables and what a card's kernels need.
MEMORY_MARGIN = 1.25
HOST_MEMORY_UNIT = 0.01 * 2**20  # bytes for each byte of a latent's channel, at a factor of 1

MAKERS_OF_LATENTS = (
    'A VAE that computes in float16 may give them: start ComfyUI with "--fp32-vae", or encode '
    "another picture."
)
MAKERS_OF_CONDITIONING = (
    "A text encoder with damaged weights gives them, and so may a prompt weight: download the text "
    "encoder again, and lower the weights in the prompt."
)


class LuminaNext(comfy.model_base.BaseModel):
    """A loaded Lumina-Next or Lumina-T2I model, which MODEL carries in the editor.

    files: where its weights are read from while it runs; none if they were copied. fingerprint: of
    its file's weights, which tells it from others.
    """

    def __init__(
        self, model_config: "LuminaNextConfig", device: torch.device | None = None
    ) -> None:
        flow = comfy.model_base.ModelType.FLOW
        network = NETWORKS[type(model_config.network_config)]
        super().__init__(model_config, flow, device=device, unet_model=network)
        self.files = MappedFiles()
        self.fingerprint = ""

    def memory_required(self, *args: object, **kwargs: object) -> float:
        """As the host's; it asks before each run, and before it moves and patches the weights."""
        self.files.check()
        return super().memory_required(*args, **kwargs)

    def process_timestep(self, timestep: Tensor, **kwargs: object) -> Tensor:
        """Sigma from a timestep: nodes that set the shift scale timesteps by 1 or by 1000."""
        return timestep / getattr(self.model_sampling, "multiplier", 1.0)

    def process_latent_in(self, latent: Tensor) -> Tensor:
        """The latent of a VAE as the network takes it, at the start of a run."""
        check_given(latent, "LATENT", MAKERS_OF_LATENTS)
        return super().process_latent_in(latent)

    def process_latent_out(self, latent: Tensor) -> Tensor:
        """The network's latent as the VAE takes it, at the end of a run."""
        check_drawn(latent, self.diffusion_model)
        return super().process_latent_out(latent)

    def extra_conds(self, **kwargs: object) -> dict[str, comfy.conds.CONDRegular]:
        """The inputs that one prompt adds to a forward pass, as conds that the host batches."""
        config, noise = self.diffusion_model.config, kwargs["noise"]
        caption = kwargs.get("cross_attn")
        if caption is None and kwargs.get("prompt_type") == "negative":
            # "Dual Model CFG Guider" asks for it where no negative prompt is connected.
            caption = without_text(config.caption_dim)
        check_latent(noise, config.in_channels)
        check_area(kwargs.get("area"), noise)
        check_caption(caption, config.caption_dim, kwargs)
        check_given(caption, "CONDITIONING", MAKERS_OF_CONDITIONING)
        regions = regions_of(kwargs, caption)
        for region in regions:
            check_given(region.caption, "CONDITIONING", MAKERS_OF_CONDITIONING)
        size, to_sigma = tuple(noise.shape[-2:]), self.model_sampling.percent_to_sigma
        conds = regional_conds(caption, kwargs.get("attention_mask"), regions, size, to_sigma)
        return {**conds, "frame": Frame.of(noise)}

    def _apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: object = None,
        transformer_options: Options | None = None,
        *,
        attention_mask: Tensor | None = None,
        caption_lengths: tuple[int, ...] | None = None,
        region_weights: Tensor | None = None,
        region_ranges: Tensor | None = None,
        frame: tuple[tuple[int, int], tuple[int, int]] | None = None,
        **kwargs: object,
    ) -> Tensor:
        self.files.check()
        transformer_options = transformer_options or {}
        whole = frame_of(tuple(x.shape[-2:]), frame, transformer_options)
        step = self._step(x, t, whole, transformer_options)
        shares = caption_shares(
            x,
            t,
            caption_lengths,
            region_weights,
            region_ranges,
            patch_size=self.diffusion_model.patch_size,
            line_ends=step.line_ends,
        )
        few, many = tokens_at_once(x.device, self._casts_weights)
        options = dataclasses.replace(
            forward_options(step, transformer_options),
            regions=shares,
            tokens_per_norm=few,
            tokens_per_product=many,
        )
        return super()._apply_model(
            x,
            t,
            c_concat,
            c_crossattn,
            control,
            transformer_options,
            attention_mask=padding_mask(attention_mask),
            options=HostForwardOptions.of(
                dataclasses.replace(options, cached=cached_call(step, transformer_options)),
                **self._attention_abilities(x.device, transformer_options),
            ),
            **kwargs,
        )

    @property
    def _casts_weights(self) -> bool:
        """Whether each use of a weight casts it anew."""
        config = self.model_config
        return bool(self.manual_cast_dtype or config.quant_config or config.custom_operations)

    def _attention_abilities(
        self, device: torch.device, transformer_options: Options
    ) -> dict[str, bool]:
        # Decided here, outside anything that may be compiled.
        dtype, head_dim = self.get_dtype_inference(), self.diffusion_model.config.head_dim
        return {
            "shares_heads": attention_shares_heads(device, dtype, head_dim, transformer_options),
            "may_branch": attention_may_branch(device, dtype, transformer_options),
        }

    def _step(
        self,
        x: Tensor,
        sigma: Tensor,
        frame: tuple[int, int],
        transformer_options: Options,
    ) -> Step:
        size, config = self.diffusion_model.patch_size, self.diffusion_model.config
        height, width, *frame_tokens = (-(-n // size) for n in (*x.shape[-2:], *frame))
        if config.rope_axes == 1:
            check_no_positions(transformer_options, config.network)
        rows, columns = positions(height, width, transformer_options, x.device)
        return Step(
            sigma,
            rows,
            columns,
            tuple(frame_tokens),
            config.layers,
            config.head_dim,
            x.device,
            config.rope_axes,
        )

    def state_dict_for_saving(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """As the host's, after a look whether the weights are still those that were loaded."""
        self.files.check()
        return super().state_dict_for_saving(*args, **kwargs)

    def load_model_weights(
        self, sd: dict[str, Tensor], unet_prefix: str = "", assign: bool = False
    ) -> "LuminaNext":
        """Fill the network. Raises ValueError that names a missing, unknown or misshapen key."""
        keys = [key for key in sd if key.startswith(unet_prefix)]
        weights = {key.removeprefix(unet_prefix): sd.pop(key) for key in keys}
        weights = self.model_config.process_unet_state_dict(weights)
        try:
            missing, unexpected = self.diffusion_model.load_state_dict(
                weights, strict=False, assign=assign
            )
        except RuntimeError as error:  # torch: a tensor of another shape than the network's
            raise ValueError(f"The Lumina-Next weights do not fit together: {error}") from error
        total, source = len(self.diffusion_model.state_dict()), "The Lumina-Next model"
        name = self.diffusion_model.config.network
        strict.check_names(missing, unexpected, total, source, network_name=name)
        return self


def memory_usage_factor(config: DiTConfig) -> float:
    """The host's figure for how much memory a forward pass takes, from the sizes of the layers."""
    # For each token: what the first layer got, what this one got, that after attention, and that
    # normalized; then the feed-forward's two halves, or queries, keys, values and two results.
    numbers = 4 * config.dim + max(2 * config.ffn_dim, 4 * config.dim)
    return MEMORY_MARGIN * numbers / config.patch_size**2 / HOST_MEMORY_UNIT


class LuminaNextConfig(comfy.supported_models_base.BASE):
    """What the host reads about a model: latents, sampling, dtypes, memory, names of weights."""

    unet_config = {}
    unet_extra_config = {}
    sampling_settings = {"multiplier": 1.0, "shift": 1.0}
    latent_format = comfy.latent_formats.SDXL
    supported_inference_dtypes = [torch.bfloat16, torch.float32]
    vae_key_prefix = ["vae."]
    text_encoder_key_prefix = ["text_encoders."]

    def __init__(
        self,
        config: DiTConfig,
        latent_format: type[comfy.latent_formats.LatentFormat],
        trained_size_px: int,
    ) -> None:
        image_model = IMAGE_MODELS[config.rope_axes]
        super().__init__({"image_model": image_model, **dataclasses.asdict(config)})
        self.network_config = config
        self.latent_format = latent_format()
        self.trained_size_px = trained_size_px
        self.memory_usage_factor = memory_usage_factor(config)

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
        """The network's weights under the released names, with the host's prefix."""
        return super().process_unet_state_dict_for_saving(key_names.to_file_keys(state_dict))
