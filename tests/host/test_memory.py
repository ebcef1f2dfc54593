"""Peak memory of loading a model and its text encoder, in a process of its own.

The files are of the true architecture and a gigabyte large, but hold only zeros: a file system
stores none of those, while reading them takes memory like anything else.
"""

import json
import subprocess
import sys

import pytest
import torch

from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.text_encoders.config import DecoderConfig
from lumina_next.lumina.text_encoders.decoder import Decoder
from lumina_next.tests.support import tiny
from lumina_next.tests.support.zero_files import write_next_dit, write_zeros
from lumina_next.tools import environment

MODEL = NextDiTConfig(dim=1536, layers=12, heads=24, kv_heads=6, caption_dim=1024, ffn_dim=4096)
# Gemma's vocabulary, by which a file without a config.json is known.
GEMMA = DecoderConfig("gemma", 256_000, 1024, 8192, layers=2, heads=4, kv_heads=1, head_dim=256)
GB = 1 << 30


def write_models(folder, dtype):
    """Both files, and their sizes in bytes."""
    files = folder / "model.safetensors", folder / "gemma.safetensors"
    gemma = Decoder(GEMMA, device="meta").state_dict()
    sizes = [write_next_dit(files[0], MODEL, dtype), write_zeros(files[1], gemma, dtype)]
    (folder / "gemma.tokenizer.model").write_bytes(tiny.pieces())
    return files, sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loading_holds_no_second_copy_of_either_file(tmp_path, dtype):
    files, sizes = write_models(tmp_path, dtype)
    command = [sys.executable, "-m", "tests.support.peak_memory", *files]
    done = subprocess.run(command, cwd=environment.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert peaks["loaded"] < 1.15 * max(sizes) + GB
    # Sharper where the CPU computes: loading reads almost nothing, drawing reads each file once.
    assert peaks["loaded"] - peaks["before"] < 0.1 * max(sizes)
    assert peaks["drawn"] - peaks["before"] < 1.15 * sum(sizes)
