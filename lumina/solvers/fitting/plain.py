"""A fit in plain torch, without ComfyUI: files of a model and of Gemma, prompts one a line.

The same mathematics as in ComfyUI: captions of at most 256 tokens, guidance on three of the four
latent channels. Everything is computed in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...checkpoints.convert.folders import find_encoder_files
from ...checkpoints.fingerprint import fingerprint
from ...checkpoints.foreign import reading
from ...checkpoints.key_names import to_native
from ...checkpoints.loading import load_next_dit, read_state_dict
from ...config import PX_PER_LATENT
from ...model.caption import padding_mask
from ...model.next_dit import NextDiT
from ...options.guidance import RELEASED_CHANNELS, on_channels
from ...prompts.formats import HIDDEN_STATE, MAX_TOKENS, PROMPT_FORMATS
from ...schedules import SCHEDULES
from ...text_encoders.weights import load_decoder
from ..fitted.file import FittedFile, Setting, architecture_of, write_fitted
from ..runge_kutta import SOLVERS
from .pictures import Pictures
from .run import Effort, Work, check_prompts, fit, in_sets
from .trajectories import TRUTH

BATCH = 8
GEMMA = PROMPT_FORMATS["gemma"]


@dataclass(frozen=True)
class Request:
    """What is to be fitted. size: width and height in pixels."""

    model: Path
    text_encoder: Path
    prompts: Path
    file: Path
    calls: Sequence[int]
    effort: Effort
    cfg: float = 4.0
    size: tuple[int, int] = (1024, 1024)
    seed: int = 0


def fit_files(request: Request, tick: Callable[[int], None]) -> FittedFile:
    """Fit and write the file. tick(n) hears of n pictures for which the model was called once.

    Raises ValueError or OSError that names the file and what is wrong with it; what a stopped run
    has done is found again by the next one.
    """
    prompts = read_prompts(request.prompts)
    check_prompts(len(prompts))
    state_dict = read_state_dict(request.model)
    dit = load_next_dit(state_dict, dtype=torch.float32)
    print_of = fingerprint(to_native(state_dict, request.model.name))
    setting = Setting(architecture_of(dit.config), print_of, request.cfg, *request.size)
    rows = in_sets(prompts, request.effort.sets)
    shape = dit.config.in_channels, *(side // PX_PER_LATENT for side in reversed(request.size))
    noise = torch.stack([_noise(request.seed + row, shape) for row in range(len(rows))])
    captions = encode([*dict.fromkeys(rows), ""], request.text_encoder)
    pictures = Pictures(noise, _Guided(dit, captions, rows, request.cfg), BATCH, tick)
    work = Work(request.file, repr((setting, request.effort.sets, request.seed, rows)))
    others = {
        number: {"euler, uniform": (SOLVERS["euler"], SCHEDULES["uniform"](number))}
        for number in request.calls
    }
    with torch.inference_mode(), work.kept() as folder:
        found = fit(pictures, request.effort, request.calls, folder, others)
        sets = request.effort.sets
        counts = (sets.fit, sets.choose, sets.report)
        content = FittedFile(setting, counts, tuple(rows), request.seed, TRUTH, work.digest, found)
        write_fitted(request.file, content)
    return content


def read_prompts(file: Path) -> list[str]:
    """The lines of a text file, without empty ones and repetitions. Raises ValueError, OSError."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.name} is no text in UTF-8: one prompt a line belongs in it."
        ) from error
    return list(dict.fromkeys(filter(None, map(str.strip, lines))))


Captions = dict[str, tuple[Tensor, Tensor]]  # prompt -> features (1, S, D), mask (1, S)


@torch.inference_mode()
def encode(prompts: Sequence[str], text_encoder: Path) -> Captions:
    """Each prompt's features by a Gemma, a Hugging Face folder or a file with its tokenizer."""
    with reading(text_encoder.name):
        weights, tokenizer = _encoder_files(text_encoder)
        ids, mask = tokens(prompts, tokenizer)
        gemma = load_decoder(weights, dtype=torch.float32, source=text_encoder.name)
        features = [
            gemma(*row, hidden_state=HIDDEN_STATE)
            for row in zip(ids.split(1), mask.split(1), strict=True)
        ]
    return dict(zip(prompts, zip(features, mask.split(1), strict=True), strict=True))


def _encoder_files(path: Path) -> tuple[dict[str, Tensor], bytes]:
    if path.is_dir():
        return read_state_dict(path, "text_encoder"), find_encoder_files(
            path
        ).tokenizer.read_bytes()
    weights = read_state_dict(path)
    if "spiece_model" not in weights:
        raise ValueError(
            f"{path.name} comes without a tokenizer. Give its Hugging Face folder, or a file that "
            '"python -m lumina pack" made.'
        )
    return weights, weights["spiece_model"].numpy().tobytes()


def tokens(prompts: Sequence[str], tokenizer: bytes) -> tuple[Tensor, Tensor]:
    """ids and mask (N, S) by a SentencePiece model: begin, text, padding on the right."""
    try:
        import sentencepiece
    except ImportError as error:
        raise ValueError(
            "Prompts are read with sentencepiece: pip install sentencepiece."
        ) from error
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    rows = [[GEMMA.begin, *found][:MAX_TOKENS] for found in pieces.encode(list(prompts))]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [GEMMA.pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


class _Guided:
    """The model with guidance, as `pictures.Answer`."""

    def __init__(
        self, dit: NextDiT, captions: Captions, prompts: Sequence[str], cfg: float
    ) -> None:
        self.dit, self.captions, self.prompts, self.cfg = dit, captions, prompts, cfg

    def __call__(self, part: slice, x: Tensor, sigma: Tensor) -> Tensor:
        prompts = list(self.prompts[part])
        velocity = self._velocity(prompts, x, sigma)
        if self.cfg != 1:
            empty = self._velocity([""] * len(prompts), x, sigma)
            guided = empty + self.cfg * (velocity - empty)
            velocity = on_channels(guided, velocity, RELEASED_CHANNELS)
        return x + sigma[:, None, None, None] * velocity

    def _velocity(self, prompts: list[str], x: Tensor, sigma: Tensor) -> Tensor:
        features, masks = zip(*map(self.captions.__getitem__, prompts), strict=True)
        mask = padding_mask(torch.cat(masks))
        velocity: Tensor = self.dit(x, 1 - sigma, torch.cat(features), mask)
        return velocity


def _noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
