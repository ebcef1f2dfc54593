"""Matrices quantized by the pack's formats, and what they stand for, decoded by plain rules."""

import torch

from lumina_next.lumina.checkpoints.convert.formats import FORMATS, ROWS

FP4 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def dequantized(name, matrix):
    """A matrix after a way through the format."""
    tensors = FORMATS[name].quantized(matrix)
    if name != "nvfp4":
        return tensors["weight"].float() * tensors["weight_scale"]
    both = torch.stack([tensors["weight"] >> 4, tensors["weight"] & 15], dim=2).flatten(1)
    numbers = FP4[(both & 7).int()] * (1 - 2.0 * (both >> 3))
    scales = tensors["weight_scale"].float() * tensors["weight_scale_2"]
    return numbers * torch.stack([block_scale(scales, *at) for at in cells(matrix.shape)]).view(
        len(matrix), -1
    ).repeat_interleave(16, dim=1)


def cells(shape):
    """Row and block of every 16 numbers."""
    return [(row, block) for row in range(shape[0]) for block in range(shape[1] // 16)]


def block_scale(scales, row, block):
    """One scale out of tiles of 128 x 4, which lie one after another, 512 numbers each."""
    tiles = scales.flatten()
    across = scales.shape[1] // 4
    tile = (row // ROWS) * across + block // 4
    return tiles[tile * 512 + (row % 32) * 16 + (row % ROWS // 32) * 4 + block % 4]
