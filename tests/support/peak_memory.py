"""Loads a model and a text encoder on the CPU, draws a picture, and prints what memory it took.

    python peak_memory.py COMFYUI PACK MODEL_FILE TEXT_ENCODER_FILE

One line of JSON: the process's peak resident bytes before loading, after it, and after the picture.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path

import torch


def main(host: str, pack: str, model_file: str, text_encoder_file: str) -> None:
    sys.path.insert(0, host)
    import comfy.cli_args
    import utils.install_util  # noqa: F401 - as main.py: later `utils` would be comfy's own

    comfy.cli_args.args.cpu = True
    import nodes

    import_pack(pack)
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


def import_pack(root: str) -> None:
    spec = importlib.util.spec_from_file_location(
        "lumina_next", f"{root}/__init__.py", submodule_search_locations=[root]
    )
    sys.modules["lumina_next"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["lumina_next"])


def loaders(kind: str):
    return importlib.import_module(f"lumina_next.host.{kind}.loading")


def peak_bytes() -> int:
    """Of this program alone: `ru_maxrss` counts what the process held that started it, too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
