"""Quantizes a model or a packed text encoder that the loaders list, into the same models folder."""

from pathlib import Path, PurePosixPath

from comfy.quant_ops import QUANT_ALGOS

from ...lumina.checkpoints.convert.formats import FORMATS
from ...lumina.checkpoints.convert.quantize import describe, quantize
from ..notices import say
from ..versions import RUNNING
from . import converting
from .folders import MODELS, TEXT_ENCODERS, ModelKind, find, is_folder, locate, names

KINDS = {kind.folder: kind for kind in (MODELS, TEXT_ENCODERS)}


def sources() -> list[str]:
    """What the dropdown lists: each model and each text encoder of one file, by folder and name."""
    models = [f"{MODELS.folder}/{name}" for name in names(MODELS)]
    packed = [name for name in names(TEXT_ENCODERS) if not is_folder(TEXT_ENCODERS, name)]
    return [*models, *(f"{TEXT_ENCODERS.folder}/{name}" for name in packed)]


def target(source: str, format_name: str, file_name: str) -> Path:
    """Path of the new file, in the folder of its kind.

    Without a file name it is named after the source and the format. Raises ValueError for a name
    that would lead elsewhere.
    """
    kind, name = _split(source)
    stem = Path(name).name.removesuffix(converting.SUFFIX)
    return converting.target(kind, f"{stem}-{format_name}", file_name)


def check_format(format_name: str) -> None:
    """Raise ValueError for a format that this ComfyUI could not load."""
    if FORMATS[format_name].host_name not in QUANT_ALGOS:
        raise ValueError(
            f"ComfyUI {RUNNING} does not read {format_name} weights. Update ComfyUI, or choose fp8."
        )


def state(source: str, format_name: str, file_name: str) -> object:
    """Changes whenever the source or the new file does; NaN, unequal to itself, without it."""
    file = target(source, format_name, file_name)
    return converting.state(file, lambda: locate(*_split(source)))


def quantize_model(source: str, format_name: str, file_name: str, overwrite: bool) -> str:
    """Write the file and report it on the node; returns its name in the loader.

    Raises as `quantize` and `check_format` do. An error or the user's Cancel leaves no file.
    """
    check_format(format_name)
    file, progress = target(source, format_name, file_name), converting.progress_bar()
    file.parent.mkdir(parents=True, exist_ok=True)
    path = find(*_split(source))
    quantized = quantize(path, file, format_name, overwrite=overwrite, progress=progress)
    say(describe(quantized) + " Press R to see it in the loader.")
    return file.name


def _split(source: str) -> tuple[ModelKind, str]:
    folder, *rest = PurePosixPath(source).parts
    if folder not in KINDS or not rest:
        raise ValueError(
            f'"{source}" must begin with {" or ".join(f"{name}/" for name in KINDS)}, as the list '
            "of models has it."
        )
    return KINDS[folder], str(PurePosixPath(*rest))
