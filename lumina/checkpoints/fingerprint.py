"""Tells models apart by their weights, without reading gigabytes."""

import hashlib

import torch

from .key_names import StateDict

SAMPLE = 16  # numbers of each weight: one page of a file


def fingerprint(native: StateDict) -> str:
    """64 hexadecimal digits that differ where any weight does in name, shape or first numbers.

    native: weights under released names. Training changes every weight, so its first numbers tell.
    They are rounded to bfloat16, so that a model's file in float32 and in bfloat16 is one model;
    one stored in fewer bits is another.
    """
    digest = hashlib.sha256()
    for key in sorted(native):
        weight = native[key]
        digest.update(f"{key} {tuple(weight.shape)}".encode())
        first = weight.detach().reshape(-1)[:SAMPLE].to("cpu").float()
        digest.update(first.to(torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
