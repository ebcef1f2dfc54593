"""The formats that weight matrices are quantized to, as ComfyUI reads them.

Each is a rule from a matrix (rows, columns) to a few tensors beside each other. They come as pieces
of some rows, in the order of their bytes, so that little of a matrix is in memory at once.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .streams import TYPE_NAMES, TensorInfo

ROWS = 128  # of a piece; NVFP4 arranges its scales in tiles of as many
LARGEST_FP8 = torch.finfo(torch.float8_e4m3fn).max
LARGEST_INT8 = torch.iinfo(torch.int8).max
LARGEST_FP4 = 6.0
FP4_BLOCK = 16  # numbers of a row that share a scale
FP4_TILE = 4  # scales of a row that stand together

Pieces = Iterator[tuple[str, Tensor]]


@dataclass(frozen=True)
class Format:
    """A way to store a matrix.

    host_name: what ComfyUI calls it, with `settings` in the tensor beside each weight. meaning: for
    the user. shapes(rows, columns): dtype and shape of each tensor, by what follows the layer's
    name. pieces(matrix): the tensors' contents, (name, some rows). multiple: what both sides of a
    matrix must be divisible by.
    """

    host_name: str
    meaning: str
    shapes: Callable[[int, int], Mapping[str, tuple[torch.dtype, tuple[int, ...]]]]
    pieces: Callable[[Tensor], Pieces]
    multiple: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape can be stored so."""
        return len(shape) == 2 and all(side and side % self.multiple == 0 for side in shape)

    def tensors(self, shape: tuple[int, ...]) -> dict[str, TensorInfo]:
        """The tensors of a matrix of this shape, by what follows the layer's name."""
        return {
            name: TensorInfo(TYPE_NAMES[dtype], sides, math.prod(sides) * dtype.itemsize)
            for name, (dtype, sides) in self.shapes(*shape).items()
        }

    def quantized(self, matrix: Tensor) -> dict[str, Tensor]:
        """The tensors of a matrix, whole, by what follows the layer's name."""
        parts: dict[str, list[Tensor]] = {}
        for name, piece in self.pieces(matrix):
            parts.setdefault(name, []).append(piece.reshape(-1).view(torch.uint8))
        return {
            name: torch.cat(parts[name]).view(dtype).view(shape)
            for name, (dtype, shape) in self.shapes(*matrix.shape).items()
        }

    @property
    def note(self) -> bytes:
        """What ComfyUI reads beside each weight, as JSON."""
        return json.dumps({"format": self.host_name, **self.settings}).encode()


def _fp8_shapes(rows: int, columns: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {
        "weight": (torch.float8_e4m3fn, (rows, columns)),
        "weight_scale": (torch.float32, ()),
    }


def _fp8_pieces(matrix: Tensor) -> Pieces:
    """weight = round(matrix / scale), scale = largest / 448: one scale for the matrix."""
    scale = _or_one(_largest(matrix) / LARGEST_FP8)
    yield "weight_scale", scale
    for part in _parts(matrix):
        scaled = (part / scale).clamp_(-LARGEST_FP8, LARGEST_FP8)
        yield "weight", scaled.to(torch.float8_e4m3fn)


def _int8_shapes(rows: int, columns: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {"weight": (torch.int8, (rows, columns)), "weight_scale": (torch.float32, (rows, 1))}


def _int8_pieces(matrix: Tensor) -> Pieces:
    """weight = round(matrix / scale), scale = largest of the row / 127: one scale for each row."""
    for part in _parts(matrix):
        scale = _or_one(part.abs().amax(dim=1, keepdim=True) / LARGEST_INT8)
        yield "weight_scale", scale
        yield "weight", (part / scale).round_().to(torch.int8)


def _nvfp4_shapes(rows: int, columns: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    scales = (_up(rows, ROWS), _up(columns // FP4_BLOCK, FP4_TILE))
    return {
        "weight": (torch.uint8, (rows, columns // 2)),
        "weight_scale": (torch.float8_e4m3fn, scales),
        "weight_scale_2": (torch.float32, ()),
    }


def _nvfp4_pieces(matrix: Tensor) -> Pieces:
    """Numbers in 4 bits, a scale in fp8 for 16 of a row, and one for the matrix in float32.

    docs.nvidia.com/cuda/cublas, "1D Block Scaling for FP8 and FP4 Data Types".
    """
    whole = _or_one(_largest(matrix) / (LARGEST_FP8 * LARGEST_FP4))
    yield "weight_scale_2", whole
    for part in _parts(matrix):
        blocks = part.unflatten(1, (-1, FP4_BLOCK))
        scales = blocks.abs().amax(dim=2) / LARGEST_FP4 / whole
        scales = scales.clamp_(max=LARGEST_FP8).to(torch.float8_e4m3fn)
        step = whole * scales.float()
        codes = _fp4_codes(blocks / _or_one(step).unsqueeze(2)).flatten(1)
        yield "weight", codes[:, ::2] << 4 | codes[:, 1::2]
        yield "weight_scale", _in_tiles(scales)


# Halfway between 0, 0.5, 1, 1.5, 2, 3, 4, 6. What lies there goes to the even code: every second of
# these belongs to the number above it.
_HALFWAY = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
_HALFWAY[1::2] = torch.nextafter(_HALFWAY[1::2], torch.zeros(3))


def _fp4_codes(x: Tensor) -> Tensor:
    """The nearest number that 4 bits hold, as its code in uint8: sign, two of exponent, one."""
    codes = torch.bucketize(x.abs(), _HALFWAY).to(torch.uint8)
    return codes | (x.signbit().to(torch.uint8) << 3)


def _in_tiles(scales: Tensor) -> Tensor:
    """Scales (rows, columns) of at most `ROWS` rows as tiles of 128 x 4, padded with zeros.

    In a tile, rows r, r + 32, r + 64 and r + 96 stand side by side.
    """
    rows, columns = scales.shape
    padding = (0, _up(columns, FP4_TILE) - columns, 0, ROWS - rows)
    padded = F.pad(scales.view(torch.uint8), padding)
    tiles = padded.view(4, ROWS // 4, -1, FP4_TILE).permute(2, 1, 0, 3)
    return tiles.reshape(ROWS, -1).view(scales.dtype)


def _parts(matrix: Tensor) -> Iterator[Tensor]:
    return (part.float() for part in matrix.split(ROWS))


def _largest(matrix: Tensor) -> Tensor:
    return torch.stack([part.abs().max() for part in _parts(matrix)]).max()


def _or_one(scale: Tensor) -> Tensor:
    """A scale, or 1 where all it scales is zero."""
    return torch.where(scale == 0, 1.0, scale)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


FORMATS = {
    "fp8": Format(
        "float8_e4m3fn",
        "8 bits with a scale for each matrix. Every ComfyUI that runs this pack reads it.",
        _fp8_shapes,
        _fp8_pieces,
        # ComfyUI would round what a layer reads to fp8 too, and without a scale that fits it.
        settings={"full_precision_matrix_mult": True},
    ),
    "int8": Format(
        "int8_tensorwise",
        "8 bits with a scale for each row: closer than fp8. For ComfyUI 0.30.0 and newer.",
        _int8_shapes,
        _int8_pieces,
    ),
    "nvfp4": Format(
        "nvfp4",
        "4 bits with a scale for every 16 numbers: half as large, and much coarser.",
        _nvfp4_shapes,
        _nvfp4_pieces,
        multiple=16,
        settings={"full_precision_matrix_mult": True},
    ),
}
