"""Loads a model and a text encoder on the CPU, draws a picture, and prints what memory it took.

    python -m tests.support.peak_memory MODEL_FILE TEXT_ENCODER_FILE

One line of JSON: the process's peak resident bytes before loading, after it, and after the picture.
"""

import importlib
import json
import re
import sys
from pathlib import Path

import torch

from tools.in_process import PACK, import_comfyui, import_pack


def main(model_file: str, text_encoder_file: str) -> None:
    import_comfyui()
    import nodes

    import_pack()
    load_text_encoder_file = loaders("text_encoders").load_text_encoder_file
    load_model_file = loaders("model").load_model_file
    peaks = {"before": peak_bytes()}
    with torch.inference_mode():
        clip = load_text_encoder_file(text_encoder_file, {})
        model = load_model_file(model_file, {}, "SDXL")
        peaks["loaded"] = peak_bytes()
        prompt = clip.encode_from_tokens_scheduled(clip.tokenize("a red cat"))
        latent = {"samples": torch.zeros(1, 4, 16, 16)}
        nodes.common_ksampler(model, 0, 1, 4.0, "euler", "normal", prompt, prompt, latent)
        peaks["drawn"] = peak_bytes()
    print(json.dumps(peaks))


def loaders(kind: str):
    return importlib.import_module(f"{PACK}.host.{kind}.loading")


def peak_bytes() -> int:
    """Of this program alone: `ru_maxrss` counts what the process held that started it, too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
