"""The commands of this package, from the pack's folder.

`python -m lumina pack FOLDER FILE` and `python -m lumina quantize MODEL FILE`.
"""

import argparse
import signal
import sys
from pathlib import Path

from .checkpoints.convert import quantize as quantizing
from .checkpoints.convert.disk import in_words
from .checkpoints.convert.formats import FORMATS
from .checkpoints.convert.pack import DTYPES, describe, pack


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exits with 1 and a sentence where it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m lumina")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_pack(commands.add_parser("pack", help="a text encoder's folder as one file"))
    add_quantize(commands.add_parser("quantize", help="a model file in fewer bits"))
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        given.run(given)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "Stopped; nothing was written.\n")


def add_pack(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pack`, and what runs it."""
    parser.description = "Pack a Hugging Face text-encoder folder into one safetensors file."
    parser.add_argument("folder", type=Path, help="with config.json, tokenizer and weights")
    parser.add_argument("file", type=Path, help="the .safetensors file to write")
    parser.add_argument("--dtype", choices=DTYPES, default="keep", help="of the weights (keep)")
    parser.add_argument("--overwrite", action="store_true", help="a file that is there")
    parser.set_defaults(run=run_pack)


def run_pack(given: argparse.Namespace) -> None:
    """Pack one folder and say what was done."""
    packed = pack(given.folder, given.file, given.dtype, overwrite=given.overwrite, progress=show)
    print(describe(packed))


def add_quantize(parser: argparse.ArgumentParser) -> None:
    """The arguments of `quantize`, and what runs it."""
    parser.description = "Write a model, or a packed text encoder, in fewer bits for ComfyUI."
    parser.add_argument("model", type=Path, help="a file, or a folder of diffusers")
    parser.add_argument("file", type=Path, help="the .safetensors file to write")
    formats = "; ".join(f"{name}: {known.meaning}" for name, known in FORMATS.items())
    parser.add_argument("--format", choices=FORMATS, default="fp8", help=formats)
    parser.add_argument("--overwrite", action="store_true", help="a file that is there")
    parser.set_defaults(run=run_quantize)


def run_quantize(given: argparse.Namespace) -> None:
    """Quantize one model and say what was done."""
    quantized = quantizing.quantize(
        given.model, given.file, given.format, overwrite=given.overwrite, progress=show
    )
    print(quantizing.describe(quantized))


def show(done: int, total: int) -> None:
    """How far it is, on a terminal."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done / total:4.0%} of {in_words(total)}", end=end, file=sys.stderr)


if __name__ == "__main__":
    main()
