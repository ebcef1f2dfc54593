"""The commands of this package, from the pack's folder.

`pack FOLDER FILE`, `quantize MODEL FILE` and `fit MODEL TEXT_ENCODER PROMPTS FILE`, each after
`python -m lumina`.
"""

import argparse
import signal
import sys
from pathlib import Path

from .checkpoints.convert import quantize as quantizing
from .checkpoints.convert.disk import in_words
from .checkpoints.convert.formats import FORMATS
from .checkpoints.convert.pack import DTYPES, describe, pack
from .options.guidance import CFG
from .solvers.fitted.file import FittedFile
from .solvers.fitting import CALLS, EFFORTS
from .solvers.fitting.plain import Request, fit_files

NOTHING_WRITTEN = "Stopped; nothing was written.\n"


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exits with 1 and a sentence where it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m lumina")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_pack(commands.add_parser("pack", help="a text encoder's folder as one file"))
    add_quantize(commands.add_parser("quantize", help="a model file in fewer bits"))
    add_fit(commands.add_parser("fit", help="a solver to a model"))
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        given.run(given)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, given.stopped)


def add_pack(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pack`, and what runs it."""
    parser.description = "Pack a Hugging Face text-encoder folder into one safetensors file."
    parser.add_argument("folder", type=Path, help="with config.json, tokenizer and weights")
    parser.add_argument("file", type=Path, help="the .safetensors file to write")
    parser.add_argument("--dtype", choices=DTYPES, default="keep", help="of the weights (keep)")
    parser.add_argument("--overwrite", action="store_true", help="a file that is there")
    parser.set_defaults(run=run_pack, stopped=NOTHING_WRITTEN)


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
    parser.set_defaults(run=run_quantize, stopped=NOTHING_WRITTEN)


def run_quantize(given: argparse.Namespace) -> None:
    """Quantize one model and say what was done."""
    quantized = quantizing.quantize(
        given.model, given.file, given.format, overwrite=given.overwrite, progress=show
    )
    print(quantizing.describe(quantized))


def add_fit(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fit`, and what runs it."""
    parser.description = (
        "Fit a solver to a Lumina-Next model, for good pictures in few model calls."
    )
    parser.add_argument("model", type=Path, help="its file or folder")
    parser.add_argument("text_encoder", type=Path, help="a Gemma's folder, or its packed file")
    parser.add_argument("prompts", type=Path, help="a text file with one prompt a line")
    parser.add_argument("file", type=Path, help="the .json file to write")
    parser.add_argument(
        "--calls", type=int, nargs="+", default=[CALLS.default], help="of the model"
    )
    parser.add_argument("--cfg", type=float, default=CFG.default, help="guidance (%(default)g)")
    parser.add_argument("--width", type=int, default=1024, help="of the pictures, in pixels")
    parser.add_argument("--height", type=int, default=1024, help="of the pictures, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--effort", choices=EFFORTS, default="normal")
    parser.add_argument("--overwrite", action="store_true", help="a file that is there")
    stopped = "Stopped; no file was written. The same command goes on from here.\n"
    parser.set_defaults(run=run_fit, stopped=stopped)


def run_fit(given: argparse.Namespace) -> None:
    """Fit solvers, and say how they do."""
    size, effort = (given.width, given.height), EFFORTS[given.effort]
    check_fit(given)
    request = Request(
        given.model,
        given.text_encoder,
        given.prompts,
        given.file,
        given.calls,
        effort,
        given.cfg,
        size,
        given.seed,
    )
    total, done = effort.picture_calls(given.calls, 2 * sum(given.calls)), 0

    def tick(pictures: int) -> None:
        nonlocal done
        done = min(done + pictures, total)
        if sys.stderr.isatty():
            print(f"\r{done / total:6.1%} of at most {total:,} calls", end="", file=sys.stderr)

    print(described(fit_files(request, tick)))


def check_fit(given: argparse.Namespace) -> None:
    """Raise ValueError or OSError for what is wrong before anything is read."""
    CFG.check("cfg", given.cfg)
    for number in given.calls:
        CALLS.check("calls", number)
    for name, side in (("width", given.width), ("height", given.height)):
        if side < 16 or side % 16:
            raise ValueError(f"{name} must be a multiple of 16 pixels from 16 up, got {side}.")
    if given.file.suffix != ".json":
        raise ValueError(f'The file to write must end in .json, not "{given.file.name}".')
    if not given.file.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {given.file.parent} to write to.")
    if given.file.exists() and not given.overwrite:
        raise FileExistsError(f"{given.file.name} is there already. Choose --overwrite or another.")


def described(content: FittedFile) -> str:
    """A line for each fitted solver, with the errors of others at as many calls."""
    lines = []
    for calls, fitted in sorted(content.solvers.items()):
        rows = {"fitted": fitted.errors, **fitted.others}
        texts = [f"{name} {item.mean:.4f} (worst {item.worst:.4f})" for name, item in rows.items()]
        lines.append(f"{calls} calls, mean error: {'; '.join(texts)}")
        if not fitted.is_better:
            lines.append(f"{calls} calls: no better than euler with sigmoid; use that instead.")
    return "\n".join(lines)


def show(done: int, total: int) -> None:
    """How far it is, on a terminal."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done / total:4.0%} of {in_words(total)}", end=end, file=sys.stderr)


if __name__ == "__main__":
    main()
