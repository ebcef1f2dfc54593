"""Puts a LoRA file on a MODEL of this pack, and says at the node what of it fits.

ComfyUI's own "Load LoRA" asks the model's class for names that it knows, and a pack cannot add any.
The changes themselves are ComfyUI's: its patches, which it merges, streams and saves.
"""

import os
from collections.abc import Mapping

import comfy.lora
from comfy.model_patcher import ModelPatcher

from ...lumina.checkpoints import architecture, lora_names
from ...lumina.checkpoints.json_files import json_object, read_json_object
from ...lumina.checkpoints.lora_names import STRENGTH, FittedLora, Share, module_of
from ...lumina.checkpoints.wording import counted, listed, quoted
from ..checkpoints.folders import LORAS, Stored, locate
from ..checkpoints.reading import Metadata, read, read_headers, reading_model
from ..notices import say, warn
from ..options.settings import check_model

PREFIX = "diffusion_model."  # of the network's weights inside a MODEL
PEFT_FILE, PEFT_SETTINGS = "adapter_model", "adapter_config.json"
HOST_METADATA = "lora_metadata"  # of a file without any there is no trace
DIFFUSERS_SETTINGS = "lora_adapter_metadata"  # a JSON text in the file's header


def with_lora(model: ModelPatcher, name: str, strength: float) -> ModelPatcher:
    """A clone of `model` with a LoRA of models/loras, and a notice of what it changes.

    Raises ValueError or FileNotFoundError that name the file, also for a LoRA of another model.
    """
    STRENGTH.check("strength", strength)
    check_model(model)
    stored = locate(LORAS, name)
    with reading_model(stored):
        lora, metadata = read(stored)
        lora = lora_names.with_peft_alpha(lora, _peft_settings(stored, metadata), stored.name)
        shapes = architecture.shapes(model.model.diffusion_model.config)
        fitted = lora_names.fit(lora, shapes, stored.name)
        patched = model.clone()
        for share in fitted.shares:
            patched.add_patches(_patches(share), strength * share.of_strength)
    _report(fitted, len(shapes), stored.name)
    return patched


def check_lora(stored: Stored) -> None:
    """Raise ValueError naming what is wrong with a LoRA file, as far as its header tells."""
    headers = read_headers(stored)
    if headers is not None:
        lora_names.modules_of(headers[0], stored.name)


def warn_of_lora_without_effect(patcher: ModelPatcher) -> None:
    """Say so where ComfyUI's own loader found nothing in a LoRA; called before each run.

    It only logs each key that it does not know. What it leaves on the MODEL is the file's metadata.
    """
    if patcher.get_attachment(HOST_METADATA) and not patcher.patches:
        warn(
            'ComfyUI\'s "Load LoRA" knows none of the names in its file, so the picture is drawn '
            'without the LoRA. "Load Lumina-Next LoRA" knows those of more trainers, and says '
            "whether the LoRA is for another model."
        )


def _patches(share: Share) -> dict[str, object]:
    """The host's patches, by the weights' names in a MODEL."""
    # Copied: a file that is read while the model runs must not change, and a LoRA is small.
    tensors = {name: tensor.clone() for name, tensor in share.tensors().items()}
    return comfy.lora.load_lora(tensors, {module_of(w): PREFIX + w for w in share.parts})


def _peft_settings(stored: Stored, metadata: Metadata) -> Mapping[str, object]:
    """What PEFT or diffusers say of a LoRA beside its weights; empty if nothing."""
    if DIFFUSERS_SETTINGS in metadata:
        return json_object(metadata[DIFFUSERS_SETTINGS], f"The header of {stored.name}")
    settings = stored.files[0].with_name(PEFT_SETTINGS)
    if stored.files[0].stem != PEFT_FILE or not os.path.lexists(settings):
        return {}
    return read_json_object(settings, f"{PEFT_SETTINGS} beside {stored.name}")


def _report(fitted: FittedLora, total: int, source: str) -> None:
    say(f"{source} changes {len(fitted.weights())} of the model's {counted(total, 'weight')}.")
    if fitted.left_out:
        names = listed([quoted(name) for name in fitted.left_out])
        warn(
            f"{source} is only in part for this model: {counted(len(fitted.left_out), 'name')} in "
            f"it {'is' if len(fitted.left_out) == 1 else 'are'} not the model's, or of another "
            f"size, and left out ({names})."
        )
    if fitted.is_split:
        warn(
            f"{source} was trained in diffusers, where self-attention and cross-attention have a "
            "query each. Lumina-Next has one for both, which gets the mean of the two changes: the "
            "picture differs a little from diffusers'."
        )
