"""Packs a Hugging Face folder that the text encoder loader lists into models/text_encoders."""

from pathlib import Path

from ...lumina.checkpoints.convert.folders import find_encoder_files
from ...lumina.checkpoints.convert.pack import describe, pack
from ..notices import say
from . import converting
from .folders import TEXT_ENCODERS, find, is_folder, locate, names


def folders() -> list[str]:
    """The names that the dropdown lists: text encoders that are folders."""
    return [name for name in names(TEXT_ENCODERS) if is_folder(TEXT_ENCODERS, name)]


def target(folder: str, file_name: str) -> Path:
    """Path of the packed file in models/text_encoders; without a file name, named as the folder.

    Raises ValueError for a name that would lead elsewhere.
    """
    return converting.target(TEXT_ENCODERS, Path(folder).name, file_name)


def explain_unpackable(folder: str) -> str | None:
    """Why a folder cannot be packed, as far as file names and headers tell; None if it can."""
    try:
        find_encoder_files(find(TEXT_ENCODERS, folder))
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


def state(folder: str, file_name: str) -> object:
    """Changes whenever the folder or the packed file does; NaN, unequal to itself, without it."""
    return converting.state(target(folder, file_name), lambda: locate(TEXT_ENCODERS, folder))


def pack_text_encoder(folder: str, file_name: str, dtype: str, overwrite: bool) -> str:
    """Write the file and report it on the node; returns its name in the text encoder loader.

    Raises as `pack` does. An error or the user's Cancel leaves no file.
    """
    file, progress = target(folder, file_name), converting.progress_bar()
    file.parent.mkdir(parents=True, exist_ok=True)
    source = find(TEXT_ENCODERS, folder)
    packed = pack(source, file, dtype, overwrite=overwrite, progress=progress)
    say(describe(packed) + ' Press R to see it in "Load Lumina-Next Text Encoder".')
    return file.name
