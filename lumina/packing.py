"""A Hugging Face text-encoder folder as one safetensors file, its tokenizer and config inside.

Every tensor passes through memory in small pieces, each written where the header has promised it.
Format: github.com/huggingface/safetensors, "Format". From the pack's folder:
python -m lumina.packing FOLDER FILE [--dtype bfloat16] [--overwrite]
"""

import argparse
import atexit
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .files import listed
from .streams import FLOATS, TYPE_NAMES, Entry, Shard, bytes_as_shard, open_shard
from .text_folders import TOKENIZERS, Parts, find_parts

DTYPES: dict[str, torch.dtype | None] = {
    "keep": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8_e4m3fn": torch.float8_e4m3fn,
}
_EMBEDDINGS = ("model.embed_tokens.weight", "embed_tokens.weight", "shared.weight")
_TIED_HEAD = "lm_head.weight"
_TIED_ALWAYS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # T5's
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Packed:
    """What came of it. `clamped`: how many numbers of which tensor were too large for fp8."""

    file: Path
    size: int  # bytes
    is_new: bool  # False where the file was there already, equal to the last byte
    clamped: Counter[str]


@dataclass(frozen=True)
class Plan:
    """The packed file before it is written. places: where the bytes of each tensor begin."""

    shards: list[Shard]
    dtype: torch.dtype | None
    header: bytes
    places: Mapping[str, int]
    size: int


def pack(
    folder: str | Path,
    file: str | Path,
    dtype: str = "keep",
    *,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Packed:
    """Write the text encoder in `folder`, or in the diffusers pipeline there, to `file`.

    dtype: of `DTYPES`, for the tensors of two and more axes. progress(done, total) hears of every
    piece, in bytes; what it raises stops the work. The file comes to be whole or not at all, and
    one that is there and equal is left alone. Raises FileNotFoundError, FileExistsError,
    ValueError or OSError that say what is wrong with which file.
    """
    folder, file = Path(folder), Path(file)
    _check_place(file, folder)
    plan = _plan(find_parts(folder), DTYPES[dtype], progress)
    clamped: Counter[str] = Counter()
    if file.exists():
        if _holds(file, _stream(plan, clamped, progress), plan.size):
            return Packed(file, plan.size, False, clamped)
        if not overwrite:
            raise FileExistsError(
                f"{file.name} is in {file.parent} already, and it is not {folder.name} packed as "
                f"{dtype}. Choose another name, or allow it to be overwritten."
            )
        clamped.clear()
    _check_space(file.parent, plan.size)
    with _whole_or_not_at_all(file) as unfinished:
        for place, piece in _stream(plan, clamped, progress):
            unfinished.seek(place)
            unfinished.write(piece)
    return Packed(file, plan.size, True, clamped)


# --- the packed file


def _plan(parts: Parts, dtype: torch.dtype | None, progress: Progress) -> Plan:
    config = json.loads(parts.metadata["config"])
    if dtype is not None and "quantization_config" in config:
        raise ValueError(
            f"The model in {parts.weights[0].parent.name} is quantised already, and another type "
            "would undo that wrongly. Keep its types, or take the model that is not quantised."
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
    return Plan(shards, dtype, *_layout(entries, {"format": "pt", **parts.metadata}))


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


def _layout(
    entries: Mapping[str, Entry], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int], int]:
    """Header, places and size of a file: wide types first, so that all numbers are aligned."""

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


def _stream(
    plan: Plan, clamped: Counter[str], progress: Progress
) -> Iterator[tuple[int, memoryview]]:
    """All bytes of the file in the order they are read, each piece with its place."""
    done = 0
    for place, piece in _pieces(plan, clamped):
        yield place, piece
        done += len(piece)
        progress(done, plan.size)


def _pieces(plan: Plan, clamped: Counter[str]) -> Iterator[tuple[int, memoryview]]:
    yield 0, memoryview(plan.header)
    places = dict(plan.places)
    for shard in plan.shards:
        for name, piece in shard.read([name for name in shard.entries if name in places]):
            if plan.dtype is not None and _is_converted(shard.entries[name]):
                numbers = torch.frombuffer(piece, dtype=FLOATS[shard.entries[name].dtype])
                piece = _converted(numbers, plan.dtype, name, clamped)
            yield places[name], piece
            places[name] += len(piece)


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


# --- on the disk


def _check_place(file: Path, folder: Path) -> None:
    if file.suffix.lower() != ".safetensors":
        raise ValueError(f'The file to write must end in .safetensors, not "{file.name}".')
    if not file.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {file.parent} to write {file.name} to.")
    if file.is_dir():
        raise FileExistsError(f"{file} is a folder. Choose another name.")
    if folder.resolve() in file.resolve().parents:
        raise ValueError(
            f"{file.name} would lie in {folder.name}, the folder it is made from, which would "
            "then hold two models. Write it beside the folder."
        )


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            f"The file takes {in_words(size)}, and the disk of {folder} has {in_words(free)} left. "
            "Make room, or choose a smaller type."
        )


def _holds(file: Path, stream: Iterator[tuple[int, memoryview]], size: int) -> bool:
    """Whether a file is already what would be written."""
    if file.stat().st_size != size:
        return False
    with file.open("rb") as present:
        for place, piece in stream:
            present.seek(place)
            # As bytes: memoryviews are compared number by number.
            if present.read(len(piece)) != bytes(piece):
                return False
    return True


@contextmanager
def _whole_or_not_at_all(file: Path) -> Iterator[BinaryIO]:
    """A new file under a temporary name: takes the place of `file`, or is gone after an error."""
    unfinished = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    remove = partial(unfinished.unlink, missing_ok=True)
    atexit.register(remove)  # ComfyUI quits without waiting for the thread that writes
    try:
        with unfinished.open("xb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())  # some disks say only now that they are full
        os.replace(unfinished, file)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            f"The disk of {file.parent} became full, and {file.name} was not written. Make room."
        ) from error
    finally:
        remove()
        atexit.unregister(remove)


# --- the command


def in_words(size: int) -> str:
    """A number of bytes for people: "5.01 GB", "20.3 MB"."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def describe(packed: Packed) -> str:
    """What was done, in sentences."""
    done = "was written" if packed.is_new else "was there already, the same to the last byte"
    said = f"{packed.file.name} ({in_words(packed.size)}) {done}."
    beyond = +packed.clamped
    if beyond:
        said += (
            f" {sum(beyond.values()):,} numbers of {listed(list(beyond))} were beyond fp8's "
            f"{torch.finfo(torch.float8_e4m3fn).max:.0f} and became that."
        )
    return said


def main(arguments: list[str] | None = None) -> None:
    """The command: packs one folder, exits with 1 and a sentence where that cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m lumina.packing",
        description="Pack a Hugging Face text-encoder folder into one safetensors file.",
    )
    parser.add_argument("folder", type=Path, help="with config.json, tokenizer and weights")
    parser.add_argument("file", type=Path, help="the .safetensors file to write")
    parser.add_argument("--dtype", choices=DTYPES, default="keep", help="of the weights (keep)")
    parser.add_argument("--overwrite", action="store_true", help="a file that is there")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        packed = pack(
            given.folder, given.file, given.dtype, overwrite=given.overwrite, progress=_show
        )
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "Stopped; nothing was written.\n")
    print(describe(packed))


def _show(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done / total:4.0%} of {in_words(total)}", end=end, file=sys.stderr)


if __name__ == "__main__":
    main()
