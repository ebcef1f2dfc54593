"""A packed file before it is written: its header, where each tensor goes, and its bytes in order.

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
from .streams import FLOATS, TYPE_NAMES, Entry, Shard, bytes_as_shard, open_shard

_EMBEDDINGS = ("model.embed_tokens.weight", "embed_tokens.weight", "shared.weight")
_TIED_HEAD = "lm_head.weight"
_TIED_ALWAYS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # T5's
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class FileLayout:
    """A packed file that is not written yet. offsets: where the bytes of each tensor begin."""

    shards: list[Shard]
    dtype: torch.dtype | None
    header: bytes
    offsets: Mapping[str, int]
    size: int


def lay_out(parts: EncoderFiles, dtype: torch.dtype | None, progress: Progress) -> FileLayout:
    """The file that a folder's parts make up. Raises ValueError if they are not of one model."""
    config = json.loads(parts.metadata["config"])
    if dtype is not None and "quantization_config" in config:
        raise ValueError(
            f"The model in {parts.weights[0].parent.name} is quantized already, and another type "
            "would undo that wrongly. Keep its types, or take the model that is not quantized."
        )
    tokenizer = bytes_as_shard(TOKENIZERS[parts.tokenizer.name], parts.tokenizer.read_bytes())
    shards = [*map(open_shard, parts.weights), tokenizer]
    _check_names(shards, [path.name for path in (*parts.weights, parts.tokenizer)])
    leave_out = _stored_twice(shards, config, progress)
    entries = {
        name: _packed_entry(entry, dtype)
        for shard in shards
        for name, entry in shard.entries.items()
        if name not in leave_out
    }
    return FileLayout(shards, dtype, *_header(entries, {"format": "pt", **parts.metadata}))


def _check_names(shards: list[Shard], files: list[str]) -> None:
    owners: dict[str, str] = {}
    for shard, file in zip(shards, files, strict=True):
        for name in shard.entries:
            if name in owners:
                raise ValueError(
                    f'"{name}" is in {owners[name]} and in {file}: they are not parts of one '
                    "model. Download the model into an empty folder."
                )
            owners[name] = file


def _stored_twice(
    shards: list[Shard], config: Mapping[str, object], progress: Progress
) -> set[str]:
    """Tensors that are the embedding once more, as Hugging Face's own files leave them out."""
    owners = {name: shard for shard in shards for name in shard.entries}
    embedding = next(filter(owners.__contains__, _EMBEDDINGS), None)
    repeats = list(_TIED_ALWAYS)
    if config.get("tie_word_embeddings") is not False:  # many models are tied without saying so
        repeats.append(_TIED_HEAD)
    if embedding is None:
        return set()

    def same(name: str) -> bool:
        pair = [(owners[key], key) for key in (embedding, name)]
        first, second = (shard.entries[key] for shard, key in pair)
        return first == second and len({_digest(*each, progress) for each in pair}) == 1

    return {name for name in repeats if name in owners and same(name)}


def _digest(shard: Shard, name: str, progress: Progress) -> bytes:
    state = hashlib.blake2b()
    for _, piece in shard.read([name]):
        state.update(piece)
        progress(0, shard.entries[name].size)  # so that it can be stopped
    return state.digest()


def _packed_entry(entry: Entry, dtype: torch.dtype | None) -> Entry:
    if dtype is None or not _is_converted(entry):
        return entry
    size = math.prod(entry.shape) * dtype.itemsize
    return replace(entry, dtype=TYPE_NAMES[dtype], size=size)


def _is_converted(entry: Entry) -> bool:
    """Norms and biases stay: a thousandth of the file, and each acts on a feature of all tokens."""
    return entry.dtype in FLOATS and len(entry.shape) >= 2


def _header(
    entries: Mapping[str, Entry], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int], int]:
    """Header, offsets and size of a file: wide types first, so that all numbers are aligned."""

    def width(name: str) -> int:
        return entries[name].size // max(1, math.prod(entries[name].shape))

    described: dict[str, object] = {"__metadata__": metadata}
    begins, begin = {}, 0
    for name in sorted(entries, key=lambda name: (-width(name), name)):
        entry, begins[name] = entries[name], begin
        begin += entry.size
        described[name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": [begins[name], begin],
        }
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {key: len(header) + at for key, at in begins.items()}, len(header) + begin


def pieces_of(
    layout: FileLayout, clamped: Counter[str], progress: Progress
) -> Iterator[tuple[int, memoryview]]:
    """All bytes of the file in the order they are read, each piece with its offset.

    clamped counts, for each tensor, the numbers that were too large for fp8.
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
        for name, piece in shard.read([name for name in shard.entries if name in offsets]):
            if layout.dtype is not None and _is_converted(shard.entries[name]):
                numbers = torch.frombuffer(piece, dtype=FLOATS[shard.entries[name].dtype])
                piece = _converted(numbers, layout.dtype, name, clamped)
            yield offsets[name], piece
            offsets[name] += len(piece)


def _converted(numbers: Tensor, dtype: torch.dtype, name: str, clamped: Counter[str]) -> memoryview:
    """Bytes of the numbers in another type.

    What is too large for fp8 becomes its largest number, and is counted: fp8 rounds by up to a
    sixteenth anyway, and there is no other type of its size. For float16 there is bfloat16, so
    there it is an error rather than another model.
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
    return memoryview(converted.view(torch.uint8).numpy())
