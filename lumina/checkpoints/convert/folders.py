"""Finds the files of a text encoder in a Hugging Face folder: weights, tokenizer, config.

The folder may be a diffusers pipeline, which has them in subfolders. Of the weights only headers
are read. Errors name the file that is missing, damaged or in another program's format.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ..files import PICKLED, SAFETENSORS, explain_unreadable, shard_paths
from ..json_files import json_object
from ..wording import listed

# Tokenizer file -> tensor that holds its bytes in a packed file. The loader, too, tries
# SentencePiece first.
TOKENIZERS = {
    "tokenizer.model": "spiece_model",
    "spiece.model": "spiece_model",
    "tokenizer.json": "tokenizer_json",
}
_TOKENIZER_SETTINGS = (
    "tokenizer_class",
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "legacy",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
)
_OTHER_FORMATS = {
    ".h5": "TensorFlow or Keras",
    ".keras": "Keras",
    ".pb": "TensorFlow",
    ".tflite": "TensorFlow",
    ".msgpack": "Flax",
    ".onnx": "ONNX",
    ".gguf": "llama.cpp",
}


@dataclass(frozen=True)
class EncoderFiles:
    """The files of one text encoder.

    metadata: JSON texts for the packed file's header, "config" and perhaps "tokenizer_config".
    """

    weights: list[Path]
    tokenizer: Path
    metadata: dict[str, str]


def find_encoder_files(folder: Path) -> EncoderFiles:
    """The text encoder's files in a Hugging Face folder or a diffusers pipeline.

    Raises FileNotFoundError for a missing file, ValueError for one that cannot be used; both name
    the file and what to do.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder.")
    weights = _weights(folder)
    weights_folder = weights[0].parent
    metadata = {"config": _config(weights_folder)}
    # In a diffusers pipeline text_encoder_2 goes with tokenizer_2.
    pipeline_tokenizer = weights_folder.with_name(
        weights_folder.name.replace("text_encoder", "tokenizer")
    )
    tokenizer = _tokenizer([weights_folder, pipeline_tokenizer], folder.name)
    tokenizer_config = tokenizer.parent / "tokenizer_config.json"
    if tokenizer_config.is_file():
        metadata["tokenizer_config"] = _tokenizer_settings(tokenizer_config)
    return EncoderFiles(weights, tokenizer, metadata)


def _weights(folder: Path) -> list[Path]:
    inner = folder / "text_encoder"
    paths = sorted((inner if inner.is_dir() else folder).iterdir())
    others = {
        _OTHER_FORMATS[path.suffix.lower()]: path.name
        for path in paths
        if path.suffix.lower() in _OTHER_FORMATS
    }
    if others and not any(path.suffix.lower() in SAFETENSORS + PICKLED for path in paths):
        program, name = next(iter(others.items()))
        raise ValueError(
            f"The folder {folder.name} holds a model for {program} ({name}), which cannot be "
            "packed. Download the .safetensors files of the model, or its pytorch_model.bin."
        )
    weights = shard_paths(folder, "text_encoder")
    problem = next(filter(None, map(explain_unreadable, weights)), None)
    if problem:
        raise ValueError(problem)
    return weights


def _config(folder: Path) -> str:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"The folder {folder.name} has no config.json, which says what its weights are. "
            "Download it into the folder, from where the weights are."
        )
    return json.dumps(json_object(path.read_bytes(), f"{path.name} in {folder.name}"))


def _tokenizer(folders: list[Path], source: str) -> Path:
    paths = [
        path for folder in folders for path in map(folder.joinpath, TOKENIZERS) if path.is_file()
    ]
    if not paths:
        raise FileNotFoundError(
            f"The folder {source} comes without a tokenizer. Download {' or '.join(TOKENIZERS)} "
            "into it, from where the weights are."
        )
    # Some models have a tokenizer.model of another format, and tokenizer.json as well.
    readable = [path for path in paths if _is_tokenizer(path)]
    if not readable:
        raise ValueError(
            f"{listed([path.name for path in paths])} in {source} cannot be read as a tokenizer. "
            "Download it again."
        )
    return readable[0]


def _is_tokenizer(path: Path) -> bool:
    """Whether the first and last bytes are a tokenizer's, not those of a failed download."""
    content = path.read_bytes()
    if TOKENIZERS[path.name] == "spiece_model":  # field 1: a piece; in it field 1: its text
        return content[:1] + content[2:3] == b"\x0a\x0a"
    return content.strip()[:1] + content.strip()[-1:] == b"{}"


def _tokenizer_settings(path: Path) -> str:
    """The settings of tokenizer_config.json that matter here, mostly special tokens, as JSON."""
    config = json_object(path.read_bytes(), f"{path.name} in {path.parent.name}")
    kept = {key: config[key] for key in _TOKENIZER_SETTINGS if key in config}
    # A special token is a string, or an object with the string as its "content".
    return json.dumps({k: v.get("content") if isinstance(v, dict) else v for k, v in kept.items()})
