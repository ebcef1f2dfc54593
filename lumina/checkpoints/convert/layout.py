"""The layout of a packed file: its header, the offset of each tensor, and its bytes as pieces.

Format: github.com/huggingface/safetensors, "Format".
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .folders import TOKENIZERS, EncoderFiles
from .streams import FLOATS, TYPE_NAMES, Shard, TensorInfo, bytes_as_shard, open_shard

_EMBEDDINGS = ("model.embed_tokens.weight", "embed_tokens.weight", "shared.weight")
_TIED_HEAD = "lm_head.weight"
_TIED_ALWAYS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # T5's
_POSITION_BIAS = "relative_attention_bias.weight"  # T5's
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class FileLayout:
    """A packed file that is not written yet.

    dtype: of converted tensors, None to keep all. offsets: from the file's start to each tensor's
    bytes. size: of the file, in bytes.
    """

    shards: list[Shard]
    dtype: torch.dtype | None
    header: bytes
    offsets: Mapping[str, int]
    size: int


def lay_out(files: EncoderFiles, dtype: torch.dtype | None, progress: Progress) -> FileLayout:
    """The layout of a text encoder packed as one file.

    Raises ValueError if two files have a tensor of the same name, or if quantized weights would be
    converted.
    """
    config_json = json.loads(files.metadata["config"])
    if dtype is not None and "quantization_config" in config_json:
        raise ValueError(
            f"The model in {files.weights[0].parent.name} is quantized already, and another type "
            "would undo that wrongly. Keep its types, or take the model that is not quantized."
        )
    tokenizer = bytes_as_shard(TOKENIZERS[files.tokenizer.name], files.tokenizer.read_bytes())
    shards = [*map(open_shard, files.weights), tokenizer]
    _check_names(shards, [path.name for path in (*files.weights, files.tokenizer)])
    left_out = _tied_to_embedding(shards, config_json, progress)
    tensors = {
        name: _packed_info(name, info, dtype)
        for shard in shards
        for name, info in shard.tensors.items()
        if name not in left_out
    }
    metadata = {"format": "pt", **files.metadata}
    if _TIED_HEAD in left_out:  # said, so that the model can still write
        metadata["config"] = json.dumps({**config_json, "tie_word_embeddings": True})
    return FileLayout(shards, dtype, *header_of(tensors, metadata))


def _check_names(shards: list[Shard], files: list[str]) -> None:
    file_of: dict[str, str] = {}
    for shard, file in zip(shards, files, strict=True):
        for name in shard.tensors:
            if name in file_of:
                raise ValueError(
                    f'"{name}" is in {file_of[name]} and in {file}: they are not parts of one '
                    "model. Download the model into an empty folder."
                )
            file_of[name] = file


def _tied_to_embedding(
    shards: list[Shard], config_json: Mapping[str, object], progress: Progress
) -> set[str]:
    """Tensors equal to the input embedding; Hugging Face's own files leave them out as well."""
    shard_of = {name: shard for shard in shards for name in shard.tensors}
    embedding = next(filter(shard_of.__contains__, _EMBEDDINGS), None)
    candidates = list(_TIED_ALWAYS)
    # Many configs of tied models do not say so.
    if config_json.get("tie_word_embeddings") is not False:
        candidates.append(_TIED_HEAD)
    if embedding is None:
        return set()

    def is_equal(name: str) -> bool:
        pair = [(shard_of[key], key) for key in (embedding, name)]
        first, second = (shard.tensors[key] for shard, key in pair)
        return first == second and len({_digest(*each, progress) for each in pair}) == 1

    return {name for name in candidates if name in shard_of and is_equal(name)}


def _digest(shard: Shard, name: str, progress: Progress) -> bytes:
    digest = hashlib.blake2b()
    for _, piece in shard.read([name]):
        digest.update(piece)
        progress(0, shard.tensors[name].size)  # so that it can be stopped
    return digest.digest()


def _packed_info(name: str, info: TensorInfo, dtype: torch.dtype | None) -> TensorInfo:
    if dtype is None or not _is_converted(name, info):
        return info
    size = math.prod(info.shape) * dtype.itemsize
    return replace(info, dtype=TYPE_NAMES[dtype], size=size)


def _is_converted(name: str, info: TensorInfo) -> bool:
    """Norms and biases stay: a thousandth of the file, and each acts on a feature of all tokens.

    T5's bias of positions is a matrix, and stays as well: it is added to all attention scores.
    """
    is_bias = name.endswith(_POSITION_BIAS)
    return info.dtype in FLOATS and len(info.shape) >= 2 and not is_bias


def header_of(
    tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int], int]:
    """Header, offsets and size of a file: wide types first, so that all numbers are aligned."""

    def itemsize(name: str) -> int:
        return tensors[name].size // max(1, math.prod(tensors[name].shape))

    header_json: dict[str, object] = {"__metadata__": metadata}
    starts, end = {}, 0  # bytes after the header
    for name in sorted(tensors, key=lambda name: (-itemsize(name), name)):
        info, starts[name] = tensors[name], end
        end += info.size
        header_json[name] = {
            "dtype": info.dtype,
            "shape": info.shape,
            "data_offsets": [starts[name], end],
        }
    text = json.dumps(header_json, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {key: len(header) + start for key, start in starts.items()}, len(header) + end


def pieces_of(
    layout: FileLayout, clamped: Counter[str], progress: Progress
) -> Iterator[tuple[int, memoryview]]:
    """All bytes of the packed file as (offset, piece), in the order in which the input is read.

    Adds to `clamped`, for each tensor, how many numbers were too large for fp8.
    """
    done = 0
    for offset, piece in _pieces(layout, clamped):
        yield offset, piece
        done += len(piece)
        progress(done, layout.size)


def _pieces(layout: FileLayout, clamped: Counter[str]) -> Iterator[tuple[int, memoryview]]:
    yield 0, memoryview(layout.header)
    offsets = dict(layout.offsets)
    for shard in layout.shards:
        for name, piece in shard.read([name for name in shard.tensors if name in offsets]):
            info = shard.tensors[name]
            if layout.dtype is not None and _is_converted(name, info):
                numbers = torch.frombuffer(piece, dtype=FLOATS[info.dtype])
                piece = _converted(numbers, layout.dtype, name, clamped)
            yield offsets[name], piece
            offsets[name] += len(piece)


def _converted(numbers: Tensor, dtype: torch.dtype, name: str, clamped: Counter[str]) -> memoryview:
    """The bytes of `numbers` in another dtype.

    Numbers too large for fp8 become its largest number and are counted in `clamped`: fp8 rounds by
    up to a sixteenth anyway, and no other dtype is as small. Numbers too large for float16 raise
    ValueError: bfloat16, of the same size, holds them.
    """
    largest = torch.finfo(dtype).max
    if dtype.itemsize == 1:
        clamped[name] += int(torch.count_nonzero(numbers.abs() > largest))
        converted = numbers.clamp(-largest, largest).to(dtype)  # older torch would make them NaN
    else:
        converted = numbers.to(dtype)
        if (converted.isinf() & numbers.isfinite()).any():
            raise ValueError(
                f'"{name}" holds {numbers[numbers.isfinite()].abs().max().item():.3g}, and '
                f"{str(dtype).removeprefix('torch.')} ends at {largest:.3g}. Choose keep, or "
                "bfloat16 in place of float16: it takes as much space."
            )
    return memoryview(converted.view(torch.uint8).numpy().data)
