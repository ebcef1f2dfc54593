"""Peak memory of loading a model and its text encoder, in a process of its own.

The files are of the true architecture and a gigabyte large, but hold only zeros: a file system
stores none of those, while reading them takes memory like anything else.
"""

import json
import subprocess
import sys

import pytest
import torch

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.lumina.text_encoders.config import DecoderConfig
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.tests.support import peak_memory, tiny
from lumina_next.tools import environment

MODEL = NextDiTConfig(dim=1536, layers=12, heads=24, kv_heads=6, caption_dim=1024, ffn_dim=4096)
# Gemma's vocabulary, by which a file without a config.json is known.
GEMMA = DecoderConfig("gemma", 256_000, 1024, 8192, layers=2, heads=4, kv_heads=1, head_dim=256)
GB = 1 << 30
KINDS = {torch.float32: "F32", torch.bfloat16: "BF16"}


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


def write_models(folder, dtype):
    """Both files, and their sizes in bytes."""
    files = folder / "model.safetensors", folder / "gemma.safetensors"
    model = key_names.to_file_keys(NextDiT(MODEL, device="meta").state_dict())
    gemma = Decoder(GEMMA, device="meta").state_dict()
    sizes = [write_zeros(file, t, dtype) for file, t in zip(files, (model, gemma), strict=True)]
    (folder / "gemma.tokenizer.model").write_bytes(tiny.pieces())
    return files, sizes


@pytest.mark.parametrize("dtype", KINDS)
def test_loading_holds_no_second_copy_of_either_file(tmp_path, dtype):
    files, sizes = write_models(tmp_path, dtype)
    command = [
        sys.executable,
        peak_memory.__file__,
        environment.host_directory(),
        environment.ROOT,
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert peaks["loaded"] < 1.15 * max(sizes) + GB
    # Sharper where the CPU computes: loading reads almost nothing, drawing reads each file once.
    assert peaks["loaded"] - peaks["before"] < 0.1 * max(sizes)
    assert peaks["drawn"] - peaks["before"] < 1.15 * sum(sizes)
