"""What in a Hugging Face folder makes up a text encoder: weights, tokenizer, config.

The folder may be a diffusers pipeline, whose parts stand in subfolders. Nothing large is read here;
what is missing, damaged or of another program is said in words.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ..broken_files import PICKLED, SAFETENSORS, explain_unreadable
from ..files import json_object, listed, shard_paths

# File: the name of the tensor that its bytes become. SentencePiece first, as the loader prefers it.
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
    """What of a folder makes up the text encoder. metadata: what its JSON files say, as text."""

    weights: list[Path]
    tokenizer: Path
    metadata: dict[str, str]


def find_parts(folder: Path) -> EncoderFiles:
    """The files that matter of a Hugging Face folder, or of the diffusers pipeline in it.

    Of the weights only headers are read. Raises FileNotFoundError for what is missing, ValueError
    for what cannot be used; both name the file and say what to do.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder.")
    weights = _weights(folder)
    home = weights[0].parent
    metadata = {"config": _config(home)}
    # In a diffusers pipeline text_encoder_2 goes with tokenizer_2.
    pipeline_tokenizer = home.parent / home.name.replace("text_encoder", "tokenizer")
    tokenizer = _tokenizer([home, pipeline_tokenizer], folder.name)
    settings = tokenizer.parent / "tokenizer_config.json"
    if settings.is_file():
        metadata["tokenizer_config"] = _tokenizer_settings(settings)
    return EncoderFiles(weights, tokenizer, metadata)


def _weights(folder: Path) -> list[Path]:
    inner = folder / "text_encoder"
    present = sorted((inner if inner.is_dir() else folder).iterdir())
    others = {
        _OTHER_FORMATS[path.suffix.lower()]: path.name
        for path in present
        if path.suffix.lower() in _OTHER_FORMATS
    }
    if others and not any(path.suffix.lower() in SAFETENSORS + PICKLED for path in present):
        kind, name = next(iter(others.items()))
        raise ValueError(
            f"The folder {folder.name} holds a model for {kind} ({name}), which cannot be packed. "
            "Download the .safetensors files of the model, or its pytorch_model.bin."
        )
    weights = shard_paths(folder, "text_encoder")
    problem = next(filter(None, map(explain_unreadable, weights)), None)
    if problem:
        raise ValueError(problem)
    return weights


def _config(home: Path) -> str:
    path = home / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"The folder {home.name} has no config.json, which says what its weights are. "
            "Download it into the folder, from where the weights are."
        )
    text = path.read_text("utf-8", "replace")
    json_object(text, f"{path.name} in {home.name}")
    return text


def _tokenizer(folders: list[Path], source: str) -> Path:
    present = [
        path for home in folders for path in map(home.joinpath, TOKENIZERS) if path.is_file()
    ]
    if not present:
        raise FileNotFoundError(
            f"The folder {source} comes without a tokenizer. Download {' or '.join(TOKENIZERS)} "
            "into it, from where the weights are."
        )
    # tokenizer.model is another format in some models, and they have tokenizer.json as well.
    readable = [path for path in present if _is_tokenizer(path)]
    if not readable:
        raise ValueError(
            f"{listed([path.name for path in present])} in {source} cannot be read as a tokenizer. "
            "Download it again."
        )
    return readable[0]


def _is_tokenizer(path: Path) -> bool:
    """By its first and last bytes, which tell it from a download that went wrong."""
    content = path.read_bytes()
    if TOKENIZERS[path.name] == "spiece_model":  # field 1, a piece; its field 1, the word
        return content[:1] + content[2:3] == b"\x0a\x0a"
    return content.strip()[:1] + content.strip()[-1:] == b"{}"


def _tokenizer_settings(path: Path) -> str:
    """Which tokens begin and end a text, of the much that tokenizer_config.json says."""
    said = json_object(path.read_bytes(), f"{path.name} in {path.parent.name}")
    known = {key: said[key] for key in _TOKENIZER_SETTINGS if key in said}
    # Special tokens are words, or objects with a word in them.
    return json.dumps({k: v.get("content") if isinstance(v, dict) else v for k, v in known.items()})
