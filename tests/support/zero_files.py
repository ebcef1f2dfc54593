"""Weights files of true sizes that hold only zeros, of which a file system stores none."""

import json

import torch

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.model.next_dit import NextDiT

KINDS = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
}


def write_zeros(file, tensors, dtype):
    """A safetensors file with the names and shapes of `tensors`; its size in bytes."""
    header, end = {}, 0
    for key, tensor in tensors.items():
        start, end = end, end + tensor.numel() * dtype.itemsize
        header[key] = {
            "dtype": KINDS[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        opened.truncate(8 + len(text) + end)
    return file.stat().st_size


def write_next_dit(file, config, dtype):
    """A Next-DiT under the released names; the file's size in bytes."""
    weights = key_names.to_file_keys(NextDiT(config, device="meta").state_dict())
    return write_zeros(file, weights, dtype)
