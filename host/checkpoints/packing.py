"""A Hugging Face folder that the text encoder loader lists, as one file in models/text_encoders."""

from pathlib import Path, PureWindowsPath

import comfy.model_management
import comfy.utils
import folder_paths

from ...lumina.checkpoints.convert.folders import find_encoder_files
from ...lumina.checkpoints.convert.pack import describe, pack
from ..notices import say
from .folders import TEXT_ENCODERS, find, locate, names

SUFFIX = ".safetensors"


def folders() -> list[str]:
    """What the dropdown lists: of the text encoders, those that are folders."""
    return [name for name in names(TEXT_ENCODERS) if find(TEXT_ENCODERS, name).is_dir()]


def place(folder: str, file_name: str) -> Path:
    """Where the file goes: models/text_encoders, under its own name or the folder's.

    Raises ValueError for a name that would lead elsewhere.
    """
    name = file_name.strip() or Path(folder).name
    if PureWindowsPath(name).name != name:  # which knows both slashes, and drives
        raise ValueError(
            f'"{file_name}" must be a bare file name: the file goes into '
            f"models/{TEXT_ENCODERS.folder} itself."
        )
    suffix = "" if name.lower().endswith(SUFFIX) else SUFFIX
    return Path(folder_paths.get_folder_paths(TEXT_ENCODERS.folder)[0]) / (name + suffix)


def explain_unpackable(folder: str) -> str | None:
    """What keeps a folder from being packed, as far as names and headers tell; None if nothing."""
    try:
        find_encoder_files(find(TEXT_ENCODERS, folder))
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


def state(folder: str, file_name: str) -> object:
    """Changes whenever the folder or the file does; equal to nothing while there is no file."""
    try:
        file = place(folder, file_name).stat()
    except FileNotFoundError:
        return float("nan")
    return [*locate(TEXT_ENCODERS, folder).state(), (file.st_mtime_ns, file.st_size)]


def pack_text_encoder(folder: str, file_name: str, dtype: str, overwrite: bool) -> str:
    """Write the file and say so on the node: its name, as the text encoder loader lists it.

    Raises what `pack` does; nothing stays then, nor after the user's canceling.
    """
    file, bar = place(folder, file_name), comfy.utils.ProgressBar(1)

    def progress(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    file.parent.mkdir(parents=True, exist_ok=True)
    source = find(TEXT_ENCODERS, folder)
    packed = pack(source, file, dtype, overwrite=overwrite, progress=progress)
    say(describe(packed) + ' Press R to see it in "Load Lumina-Next Text Encoder".')
    return file.name
