"""How far weights in fewer bits are from float32, and what that does to pictures.

    python -m benchmarks.quantized --count 60

One layer of the 2B's width, of random weights, and the demo model run on the layers that ComfyUI's
loader builds for quantized files, in float32 on the processor. `layer` is the relative error of
what the layer adds to its input, over 256 tokens and a caption; `latents` that of the demo model's
latents, and the shares are of held-out scenes read back from its pictures. "cast" are weights
rounded to fp8 without scales, as by the loader's weight_dtype; "all matrices" are fp8 with the
modulations too, which the converter keeps. For nvfp4 the demo model's matrices are padded to
multiples of 16; the converter keeps such matrices. Prints a Markdown table and writes
benchmarks/results/quantized.json.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from demo.evaluation.evaluate import Share
from demo.evaluation.generate import Demo
from demo.evaluation.measure import Measure
from demo.training.saving import write_json
from lumina import rope
from lumina.checkpoints import key_names
from lumina.checkpoints.convert.formats import FORMATS, Format
from lumina.checkpoints.convert.quantize import DIT_MATRIX, NOTE
from lumina.config import NEXT_DIT_2B_GQA
from lumina.model.next_dit import NextDiT
from lumina.options.forward import ForwardOptions
from tools.in_process import import_comfyui

RESULTS = Path(__file__).parent / "results" / "quantized.json"
STEPS = 20
SIDE, CAPTION_TOKENS = 16, 64  # of the layer's input, in tokens
FP8 = torch.float8_e4m3fn

Weights = Mapping[str, Tensor]
Kind = Callable[[Weights], dict[str, Tensor]]


def host_layers() -> type:
    """The layers that ComfyUI's loader builds for quantized files, computing in float32."""
    import_comfyui()
    import comfy.ops

    return comfy.ops.mixed_precision_ops({"mixed_ops": True}, torch.float32)


def in_format(chosen: Format, *, everywhere: bool = False) -> Kind:
    """Matrices in a converter's format, the rest as it is."""

    def convert(weights: Weights) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for key, tensor in weights.items():
            is_modulation = everywhere and ".adaLN_modulation.1.weight" in key
            if DIT_MATRIX.fullmatch(key) or (is_modulation and key.startswith("layers.")):
                tensors |= quantized(chosen, key.removesuffix("weight"), tensor)
            else:
                tensors[key] = tensor.float()
        return tensors

    return convert


def quantized(chosen: Format, layer: str, matrix: Tensor) -> dict[str, Tensor]:
    """The tensors of one matrix as a file holds them."""
    short = [-side % chosen.multiple for side in matrix.shape]
    tensors = chosen.quantized(F.pad(matrix, (0, short[1], 0, short[0])))
    note = torch.frombuffer(bytearray(chosen.note), dtype=torch.uint8)
    return {layer + name: tensor for name, tensor in tensors.items()} | {layer + NOTE: note}


def cast(dtype: torch.dtype) -> Kind:
    """All matrices of a model rounded to a dtype."""
    return lambda weights: {
        key: tensor.to(dtype).float() if tensor.ndim > 1 else tensor.float()
        for key, tensor in weights.items()
    }


KINDS: dict[str, Kind] = {
    "bfloat16": cast(torch.bfloat16),
    "fp8, cast": cast(FP8),
    "fp8": in_format(FORMATS["fp8"]),
    "fp8, all matrices": in_format(FORMATS["fp8"], everywhere=True),
    "int8": in_format(FORMATS["int8"]),
    "nvfp4": in_format(FORMATS["nvfp4"]),
}


@dataclass(frozen=True)
class Row:
    """One line of the table; errors are relative, shares from 0 to 1. bits: of a layer's weight."""

    kind: str
    bits: float
    layer: float
    latents: float
    attributes: float
    exact: float

    def __str__(self) -> str:
        numbers = [f"{self.bits:.1f}", f"{self.layer:.2%}", f"{self.latents:.2%}"]
        shares = [f"{share:.1%}" for share in (self.attributes, self.exact)]
        return f"| {' | '.join([self.kind, *numbers, *shares])} |"


class Layer:
    """One layer of the 2B's width: what it adds to a random input."""

    def __init__(self, layers: type) -> None:
        self.layers, self.config = layers, replace(NEXT_DIT_2B_GQA, layers=1)
        generator = torch.Generator().manual_seed(0)
        shapes = key_names.to_file_keys(NextDiT(self.config, device="meta").state_dict())
        self.weights = {key: random_weight(key, like, generator) for key, like in shapes.items()}
        self.x = torch.randn(1, SIDE**2, self.config.dim, generator=generator)
        self.caption = torch.randn(1, CAPTION_TOKENS, self.config.caption_dim, generator=generator)
        self.condition = torch.randn(1, self.config.condition_dim, generator=generator)
        self.exact = self.added(cast(torch.float32))

    @torch.inference_mode()
    def added(self, kind: Kind) -> Tensor:
        model = build(self.config, kind(self.weights), self.layers)
        table = rope.trained_table((SIDE, SIDE), self.config.head_dim, self.x.device)
        options = ForwardOptions(rotation=table)
        return model.run_blocks(self.x, self.caption, None, self.condition, options) - self.x

    def error(self, kind: Kind) -> float:
        return far(self.added(kind), self.exact)

    def bits(self, kind: Kind) -> float:
        """Bits that one number of the layer takes in a file."""
        weights = {key: t for key, t in self.weights.items() if key.startswith("layers.")}
        numbers = sum(tensor.numel() for tensor in weights.values())
        return 8 * sum(tensor.nbytes for tensor in stored(kind, weights).values()) / numbers


def stored(kind: Kind, weights: Weights) -> dict[str, Tensor]:
    """The tensors as a file holds them, what is kept in bfloat16."""
    if kind is KINDS["bfloat16"]:
        return {key: tensor.bfloat16() for key, tensor in weights.items()}
    if kind is KINDS["fp8, cast"]:
        return {key: tensor.to(FP8) for key, tensor in weights.items()}
    half = {key: tensor.bfloat16() for key, tensor in weights.items()}
    return {
        key: tensor.bfloat16() if key in half and tensor.dtype == torch.float32 else tensor
        for key, tensor in kind(half).items()
    }


def random_weight(key: str, like: Tensor, generator: torch.Generator) -> Tensor:
    spread = 0.3 if like.ndim < 2 else like.shape[-1] ** -0.5
    center = float("norm" in key and key.endswith("weight"))
    return center + spread * torch.randn(like.shape, generator=generator)


def build(config: object, weights: Weights, layers: type) -> NextDiT:
    model = NextDiT(config, ops=layers, device="cpu", dtype=torch.float32)
    model.load_state_dict(key_names.to_module_keys(weights), strict=False)
    return model.eval().requires_grad_(False)


def far(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def rows(count: int) -> Iterator[Row]:
    """Every kind, against float32."""
    layers = host_layers()
    layer, demo = Layer(layers), Demo()
    measure = Measure(demo, count)
    weights = key_names.to_file_keys(demo.dit.state_dict())
    exact = measure.latents(steps=STEPS)
    for name, kind in {"float32": cast(torch.float32), **KINDS}.items():
        demo.dit = build(demo.dit.config, kind(weights), layers)
        latents = measure.latents(steps=STEPS)
        share = Share.of(measure.scenes, demo.pictures(latents))
        yield Row(
            name,
            32.0 if name == "float32" else layer.bits(kind),
            layer.error(kind),
            far(latents, exact),
            share.right / share.attributes,
            share.exact / share.pictures,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="pictures for each kind")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| Weights | Bits | Layer | Latents | Attributes | Exact |")
    print(f"|{' --- |' * 6}")
    done = []
    for row in rows(args.count):
        print(row, flush=True)
        done.append(asdict(row))
        write_json(RESULTS, {"pictures": args.count, "steps": STEPS, "rows": done})


if __name__ == "__main__":
    main()
