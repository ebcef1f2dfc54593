"""Quantizes a model file: the matrices of attention and feed-forward in fewer bits, the rest as is.

What stays are norms, gates, modulations, embedders, the final layer, T5's position bias and token
tables: each acts on all tokens at once, and together they are a small part of a file. One matrix
after another passes through memory; the source is memory-mapped.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...config import PX_PER_LATENT
from .. import key_names
from ..architecture import checked_config
from ..config_json import size
from ..files import read_file, shard_paths
from ..foreign import reading
from ..json_files import read_json_object
from ..shards import merge
from ..wording import quoted
from .disk import check_target, in_words, remove_abandoned
from .folders import TOKENIZERS
from .formats import FORMATS, Format
from .layout import Progress, header_of
from .streams import TYPE_NAMES, TensorInfo, bytes_of, in_pieces, metadata_of
from .writing import Conversion, Pieces, SourceFiles

DIT_MATRIX = re.compile(r"layers\.\d+\.(attention\.w([qkvo]|[kv]_y)|feed_forward\.w[123])\.weight")
# Of Gemma, LLaMA and their relatives, and of T5.
_TEXT_MATRIX = re.compile(
    r"(.+\.)?(layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    r"|encoder\.block\.\d+\.layer\.\d\.(SelfAttention\.[qkvo]|DenseReluDense\.w(i|i_0|i_1|o)))"
    r"\.weight"
)
NOTE = "comfy_quant"  # the tensor beside a weight that says its format, as JSON


@dataclass(frozen=True)
class Quantized:
    """The result of `quantize`.

    is_new: False if the same file existed already. matrices: how many are quantized. source_size,
    size: of the files in bytes. removed: bytes of unfinished files of earlier runs.
    """

    file: Path
    source_size: int
    size: int
    matrices: int
    is_new: bool
    removed: int


@dataclass(frozen=True)
class Source:
    """A model to quantize: its tensors, memory-mapped, and its files' metadata.

    matrix: the names of the weights to quantize.
    """

    weights: Mapping[str, Tensor]
    metadata: dict[str, str]
    matrix: re.Pattern[str]


def quantize(
    source: str | Path,
    file: str | Path,
    name: str = "fp8",
    *,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Quantized:
    """Write the model in `source` to `file`, its matrices in the format `name` of `FORMATS`.

    source: a file, shard, index or folder of a Next-DiT or Flag-DiT, or one packed file of a Gemma,
    LLaMA-2 or T5. progress(done, total), in bytes, is called after every piece; an exception from
    it stops the work. An error leaves no file. Raises FileNotFoundError, FileExistsError,
    ValueError or OSError that name the file and what is wrong with it: another model, one that is
    quantized already, too little disk, a file of that name.
    """
    source, file = Path(source), Path(file)
    check_target(file, source)
    files = shard_paths(source)
    before, removed = SourceFiles(files), remove_abandoned(file)
    with reading(source.name):
        model = _read(source, files)
    chosen = FORMATS[name]
    matrices = _matrices(model, chosen, source.name)
    tensors = _tensors(model.weights, matrices, chosen)
    header, offsets, length = header_of(tensors, {"format": "pt", **model.metadata})

    def pieces() -> Pieces:
        done = 0
        for offset, piece in _placed(header, offsets, _contents(model.weights, matrices, chosen)):
            yield offset, piece
            done += len(piece)
            progress(done, length)

    result = f"{source.name} quantized to {name}"
    conversion = Conversion(file, length, pieces, before, result, "quantized")
    is_new = conversion.write(overwrite=overwrite)
    size_before = sum(path.stat().st_size for path in files)
    return Quantized(file, size_before, length, len(matrices), is_new, removed if is_new else 0)


def describe(quantized: Quantized) -> str:
    """The result in a sentence or two: name, what was quantized, sizes."""
    done = "was written" if quantized.is_new else "was there already, the same to the last byte"
    text = (
        f"{quantized.file.name} {done}: {quantized.matrices} matrices quantized, "
        f"{in_words(quantized.source_size)} became {in_words(quantized.size)}."
    )
    if quantized.removed:
        text += (
            f" An unfinished file of an earlier run was removed ({in_words(quantized.removed)})."
        )
    return text


def _read(source: Path, files: list[Path]) -> Source:
    weights = merge(list(map(read_file, files)), source.name)
    metadata = {key: text for file in files for key, text in metadata_of(file).items()}
    _refuse_quantized(weights, source.name)
    if _is_text_encoder(weights, source.name):
        return Source(weights, metadata, _TEXT_MATRIX)
    native = key_names.to_native(weights, source.name)
    checked_config(native, source.name)
    return Source(native, metadata | _trained_size(source, files), DIT_MATRIX)


def _refuse_quantized(weights: Mapping[str, Tensor], source: str) -> None:
    small = [
        key
        for key, tensor in weights.items()
        if key_names.is_quantization(key) or ("." in key and tensor.itemsize == 1)
    ]
    if small:
        raise ValueError(
            f"{source} is quantized already, see {quoted(small[0])}: rounding it twice would lose "
            "more than either. Take the file in bfloat16, float16 or float32."
        )


def _is_text_encoder(weights: Mapping[str, Tensor], source: str) -> bool:
    """Whether it is one. Raises ValueError for one without a tokenizer: half a text encoder."""
    if weights.keys() & set(TOKENIZERS.values()):
        return True
    if any(map(_TEXT_MATRIX.fullmatch, weights)):
        raise ValueError(
            f"{source} is a text encoder without a tokenizer inside. Make one file of its folder "
            'first, by "Lumina-Next Pack Text Encoder" or `python -m lumina pack`.'
        )
    return False


def _trained_size(source: Path, files: list[Path]) -> dict[str, str]:
    """The size of the training pictures that a folder's config.json gives, as metadata."""
    config = files[0].with_name("config.json")
    if not source.is_dir() or not config.is_file():
        return {}
    config_json = read_json_object(config, f"config.json in {config.parent.name}")
    latent_side = size(config_json, "sample_size", source.name)
    return {"trained_size_px": str(PX_PER_LATENT * latent_side)} if latent_side else {}


def _matrices(model: Source, chosen: Format, source: str) -> set[str]:
    """The names of the weights to quantize. Raises ValueError if there are none."""
    named = {key: model.weights[key] for key in filter(model.matrix.fullmatch, model.weights)}
    if not named:
        raise ValueError(
            f"{source} is a text encoder of a kind that cannot be quantized: it has no weights by "
            "the names that Gemma, LLaMA and T5 use."
        )
    matrices = {key for key, tensor in named.items() if chosen.takes(tuple(tensor.shape))}
    if not matrices:
        raise ValueError(
            f"{source} has no matrix both sides of which are multiples of {chosen.multiple}, as "
            "this format needs. Choose another."
        )
    return matrices


def _tensors(
    weights: Mapping[str, Tensor], matrices: set[str], chosen: Format
) -> dict[str, TensorInfo]:
    tensors, note = {}, TensorInfo("U8", (len(chosen.note),), len(chosen.note))
    for key, tensor in weights.items():
        if key not in matrices:
            if tensor.dtype not in TYPE_NAMES:
                raise ValueError(f"{quoted(key)} is {tensor.dtype}, which cannot be written.")
            shape = tuple(tensor.shape)
            tensors[key] = TensorInfo(TYPE_NAMES[tensor.dtype], shape, tensor.nbytes)
            continue
        layer = key.removesuffix("weight")
        for name, info in chosen.tensors(tuple(tensor.shape)).items():
            tensors[layer + name] = info
        tensors[layer + NOTE] = note
    return tensors


def _contents(
    weights: Mapping[str, Tensor], matrices: set[str], chosen: Format
) -> Iterator[tuple[str, memoryview]]:
    """The bytes of all tensors of the new file, as (name, the tensor's next bytes)."""
    for key, tensor in weights.items():
        if key not in matrices:
            yield from ((key, bytes_of(piece)) for piece in in_pieces(tensor.detach()))
            continue
        layer = key.removesuffix("weight")
        yield layer + NOTE, memoryview(chosen.note)
        for name, piece in chosen.pieces(tensor.detach()):
            if piece.dtype == torch.float32 and not piece.isfinite().all():  # a scale
                raise ValueError(
                    f"{quoted(key)} holds numbers that are not finite, so it cannot be quantized. "
                    "Download the model again."
                )
            yield layer + name, bytes_of(piece.contiguous())


def _placed(
    header: bytes, offsets: Mapping[str, int], contents: Iterator[tuple[str, memoryview]]
) -> Iterator[tuple[int, memoryview]]:
    yield 0, memoryview(header)
    ends = dict(offsets)
    for name, piece in contents:
        yield ends[name], piece
        ends[name] += len(piece)
