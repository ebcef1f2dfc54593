"""What a run is fitted to: the MODEL with its patches, cfg and size."""

import hashlib
from collections.abc import Iterator

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...lumina.checkpoints.fingerprint import SAMPLE
from ...lumina.solvers.fitted import Setting
from ...lumina.solvers.fitted.file import architecture_of
from ..model.base_model import LuminaNext

_DEEPEST = 6  # of what a LoRA keeps of one weight


def setting_of(model: ModelPatcher, cfg: float, width_px: int, height_px: int) -> Setting:
    """The setting of a run. Raises ValueError for a MODEL that is not of this pack."""
    if not isinstance(model.model, LuminaNext):
        raise ValueError(
            f"The MODEL is a {type(model.model).__name__}. Solvers are fitted to models from "
            '"Load Lumina-Next Model".'
        )
    architecture = architecture_of(model.model.diffusion_model.config)
    return Setting(architecture, fingerprint_of(model), cfg, width_px, height_px)


def fingerprint_of(model: ModelPatcher) -> str:
    """That of the model's file; with a LoRA or a merge on it, another one for each."""
    if not model.patches:
        return model.model.fingerprint
    digest = hashlib.sha256(model.model.fingerprint.encode())
    for key in sorted(model.patches, key=str):
        digest.update(str(key).encode())
        for part in _parts(model.patches[key], _DEEPEST):
            digest.update(part)
    return digest.hexdigest()


def _parts(value: object, depth: int) -> Iterator[bytes]:
    """Numbers, names and the first numbers of each tensor in a patch."""
    if isinstance(value, Tensor):
        first = value.detach().reshape(-1)[:SAMPLE].to("cpu").float()
        yield first.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    elif isinstance(value, str | int | float):
        yield repr(value).encode()
    elif isinstance(value, list | tuple) and depth:
        for item in value:
            yield from _parts(item, depth - 1)
    elif hasattr(value, "weights") and depth:  # the host's own objects for LoRA, LoHa and so on
        yield from _parts(value.weights, depth - 1)
