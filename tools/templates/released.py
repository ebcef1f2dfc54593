"""Templates for the released models: real file names, and links to the files."""

from __future__ import annotations

from . import parts
from .graph import Graph

HUB = "https://huggingface.co"


def download(name: str, folder: str, path: str) -> tuple[str, dict[str, str]]:
    """What the editor needs to offer a file. path: below the hub's address."""
    return name, {"name": name, "url": f"{HUB}/{path}", "directory": folder}


VAE = download(
    "sdxl_vae.safetensors", "vae", "stabilityai/sdxl-vae/resolve/main/sdxl_vae.safetensors"
)
SFT = parts.Files(
    "lumina-next-sft.safetensors",
    "gemma-2b.safetensors",
    "sdxl_vae.safetensors",
    dict(
        [
            download(
                "lumina-next-sft.safetensors",
                "diffusion_models",
                "Alpha-VLLM/Lumina-Next-SFT/resolve/main/consolidated_ema.00-of-01.safetensors",
            ),
            VAE,
        ]
    ),
)
T2I_5B = parts.Files(
    "lumina-t2i-5b.safetensors",
    "llama-2-7b.safetensors",
    "sdxl_vae.safetensors",
    dict(
        [
            download(
                "lumina-t2i-5b.safetensors",
                "diffusion_models",
                "Alpha-VLLM/Lumina-T2I/resolve/main/consolidated.00-of-01.safetensors",
            ),
            VAE,
        ]
    ),
)


def sft_1024() -> Graph:
    graph = Graph("Lumina-Next-SFT 1024")
    prompt = (
        "A red fox sitting in fresh snow at the edge of a birch forest, morning light, its breath "
        "visible in the cold air, highly detailed photograph"
    )
    parts.simple(graph, prompt, 1024, 1024, files=SFT, sampling={"preset": "As released"})
    parts.readme(
        graph,
        "**Three files, then press R.** The editor lists those that are missing.\n\n"
        f"1. [Lumina-Next-SFT]({HUB}/Alpha-VLLM/Lumina-Next-SFT), 6.5 GB: *Download*, or save it "
        "as models/diffusion_models/lumina-next-sft.safetensors\n"
        f"2. [sdxl_vae]({HUB}/stabilityai/sdxl-vae), 335 MB: *Download*, or into models/vae\n"
        f"3. [google/gemma-2b]({HUB}/google/gemma-2b), 5 GB: accept its terms, put its files but "
        "the .gguf one into models/text_encoders/gemma-2b, and run *Lumina-Next Pack Text "
        "Encoder* once. Or choose the folder as it is.\n\n"
        "*As released*: shift 4, 58 model calls. *Balanced* is faster.",
    )
    return graph


def t2i_5b() -> Graph:
    graph = Graph("Lumina-T2I 5B")
    prompt = "A lighthouse on a cliff above a stormy sea at dusk, oil painting"
    sampling = {
        "preset": "Custom",
        "preset.steps": 30,
        "preset.schedule": "rational",
        "preset.schedule.shift": 4.0,
        "preset.solver": "euler",
    }
    parts.simple(graph, prompt, 1024, 1024, files=T2I_5B, sampling=sampling)
    parts.readme(
        graph,
        "**The older and larger model** (Flag-DiT). Three files, then press R.\n\n"
        f"1. [Lumina-T2I]({HUB}/Alpha-VLLM/Lumina-T2I), 20 GB: *Download*, or save it as "
        "models/diffusion_models/lumina-t2i-5b.safetensors\n"
        f"2. [sdxl_vae]({HUB}/stabilityai/sdxl-vae), 335 MB: *Download*, or into models/vae\n"
        f"3. [Llama-2-7b-hf]({HUB}/meta-llama/Llama-2-7b-hf), 13 GB: accept its terms, put its "
        "files into models/text_encoders/llama-2-7b, and run *Lumina-Next Pack Text Encoder* "
        "once. Or choose the folder as it is.\n\n"
        "Little memory? *weight_dtype* fp8_e4m3fn, and the text encoder on *cpu*.",
    )
    return graph


TEMPLATES = [sft_1024, t2i_5b]
