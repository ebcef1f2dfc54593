"""The fit of a solver to a MODEL: the host draws the pictures, `lumina.solvers.fitting` fits.

All happens inside one run of a sampler, so that the host loads the model, its patches and hooks as
for a picture. The prompts of each batch are prepared when it is first drawn.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import comfy.k_diffusion.sampling
import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...lumina.checkpoints.convert.disk import in_words
from ...lumina.config import PX_PER_LATENT, PX_PER_TOKEN
from ...lumina.options.guidance import CFG
from ...lumina.parameters import Parameter
from ...lumina.schedules import SCHEDULES
from ...lumina.solvers import SOLVERS
from ...lumina.solvers.fitted import Fitted, FittedFile, Setting, read_fitted, write_fitted
from ...lumina.solvers.fitted.file import SIGMOID
from ...lumina.solvers.fitting import (
    CALLS,
    EFFORTS,
    Effort,
    Pictures,
    Work,
    check_prompts,
    fit,
    in_sets,
)
from ...lumina.solvers.fitting.pictures import Answer
from ...lumina.solvers.fitting.run import Others
from ...lumina.solvers.fitting.trajectories import TRUTH, cache_bytes
from ..links import CONDITIONING, MODEL, check_link
from ..notices import say
from .errors_picture import Lines, draw_errors
from .files import FOLDER, new_file
from .setting import setting_of
from .use import give

SIDE = Parameter(
    1024,
    PX_PER_TOKEN,
    4096,
    "Size of the pictures to fit to, in pixels: that of the pictures you will draw.",
    step=PX_PER_TOKEN,
)
AT = " at "
Result = TypeVar("Result")
LATENTS_AT_ONCE = 4 * 128 * 128  # of pictures drawn together, in latent pixels
Conditioning = list[list[object]]


def fit_solver(
    model: ModelPatcher,
    positive: Conditioning,
    negative: Conditioning,
    *,
    cfg: float,
    calls: int,
    width: int,
    height: int,
    seed: int,
    effort: str,
    file_name: str,
    fallback: bool,
) -> tuple[object, Tensor, Tensor]:
    """SAMPLER, SIGMAS and a plot of errors; the file is written, or found as it was written before.

    positive: a CONDITIONING with a row for each prompt. Raises ValueError for what cannot be
    fitted; the user's Cancel leaves what was done, for the next run to go on from.
    """
    check_link(model, "model", MODEL)
    check_link(positive, "positive", CONDITIONING)
    check_link(negative, "negative", CONDITIONING)
    check_numbers(cfg, calls, width, height)
    count = prompts_in(positive, negative)
    check_prompts(count)
    setting, sets = setting_of(model, cfg, width, height), EFFORTS[effort].sets
    file = new_file(file_name, f"{_model_name(model)} cfg {cfg:g} {width}x{height}")
    work = Work(file, repr((setting, seed, sets, _digest(positive), _digest(negative))))
    if not is_done(work, calls):
        rows = in_sets(range(count), sets)
        guider = FitGuider(model, positive, negative, cfg, rows)
        _fit(guider, setting, seed, EFFORTS[effort], calls, work)
    fitted = read_fitted(file).solver(calls, file.name)
    say(f'{file.name} is in models/{FOLDER}, for "Load Fitted Solver".')
    return *give(fitted, setting, 1.0, fallback), draw_errors(lines_of(fitted))


def is_done(work: Work, calls: int) -> bool:
    """Whether the file is there from an earlier fit that depended on the same."""
    if not work.file.is_file():
        return False
    content = read_fitted(work.file)
    return content.key == work.digest and calls in content.solvers


def _fit(
    guider: "FitGuider", setting: Setting, seed: int, effort: Effort, calls: int, work: Work
) -> None:
    """Fit, and write the file; other numbers of calls that it has from the same fit stay."""
    sets, others = effort.sets, compared(guider.model_patcher, calls)
    steps = sum(len(sigmas) - 1 for _, sigmas in others.values())
    bar = comfy.utils.ProgressBar(effort.picture_calls([calls], steps))

    def tick(pictures: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update(pictures)

    shape = guider.shape(setting)
    noise = torch.stack([_noise(seed + row, shape) for row in range(sets.total)])
    batch = max(1, LATENTS_AT_ONCE // (shape[-2] * shape[-1]))
    work.file.parent.mkdir(parents=True, exist_ok=True)
    with work.kept() as folder:
        size = in_words(cache_bytes(noise, sets))
        say(f"Until it is done, the fit keeps up to {size} in {folder.parent.name}.")
        found = guider.run(
            noise,
            batch,
            lambda answer: fit(
                Pictures(noise, answer, batch, tick), effort, [calls], folder, {calls: others}
            ),
        )
        before = read_fitted(work.file) if work.file.is_file() else None
        if before is not None and before.key == work.digest:
            found = {**before.solvers, **found}
        counts = (sets.fit, sets.choose, sets.report)
        write_fitted(work.file, FittedFile(setting, counts, (), seed, TRUTH, work.digest, found))


def compared(model: ModelPatcher, calls: int) -> Others:
    """Solvers to compare with, at as many calls and, named so, at twice as many."""
    sampling = model.get_model_object("model_sampling")
    found = {}
    for number, end in ((calls, ""), (2 * calls, f"{AT}{2 * calls} calls")):
        normal, simple = (
            comfy.samplers.calculate_sigmas(sampling, name, number) for name in ("normal", "simple")
        )
        found[f"{SIGMOID}{end}"] = SOLVERS["euler"], SCHEDULES["sigmoid"](number)
        found[f"euler, normal{end}"] = SOLVERS["euler"], normal
        found[f"dpmpp_2m, simple{end}"] = comfy.k_diffusion.sampling.sample_dpmpp_2m, simple
    return found


def lines_of(fitted: Fitted) -> Lines:
    """Mean errors by solver and number of calls, for the plot."""
    lines: dict[str, dict[int, float]] = {"fitted": {fitted.solver.calls: fitted.errors.mean}}
    for text, errors in fitted.others.items():
        name, at, number = text.partition(AT)
        calls = int(number.split()[0]) if at else fitted.solver.calls
        lines.setdefault(name, {})[calls] = errors.mean
    return lines


def check_numbers(cfg: float, calls: int, width: int, height: int) -> None:
    """Raise ValueError for a number out of its limits, and a side that is no number of tokens."""
    CFG.check("cfg", cfg)
    CALLS.check("calls", calls)
    SIDE.check("width", width)
    SIDE.check("height", height)
    for name, side in (("width", width), ("height", height)):
        if side % PX_PER_TOKEN:
            raise ValueError(f"{name} must be a multiple of {PX_PER_TOKEN} pixels, got {side}.")


def prompts_in(positive: Conditioning, negative: Conditioning) -> int:
    """How many prompts there are. Raises ValueError where the negative ones do not go with them."""
    counts = [{len(features) for features, _ in side} for side in (positive, negative)]
    if any(len(found) != 1 for found in counts) or max(map(len, (positive, negative))) > 1:
        raise ValueError(
            "A fit takes plain prompts, one for each picture: no areas, no combined prompts. "
            'Write one a line in "Lumina-Next Text Encode", with "batch" on.'
        )
    (count,), (negatives,) = counts
    if negatives not in (1, count):
        raise ValueError(
            f'"negative" has {negatives} prompts and "positive" {count}: one negative prompt for '
            "all, or one for each, is needed."
        )
    return count


class FitGuider(comfy.samplers.CFGGuider):
    """The host's guider, with prompts of their own for each batch of pictures.

    rows: for each picture the number of its prompt.
    """

    def __init__(
        self,
        model: ModelPatcher,
        positive: Conditioning,
        negative: Conditioning,
        cfg: float,
        rows: list[int],
    ) -> None:
        super().__init__(model)
        self.positive, self.negative, self.rows = positive, negative, rows
        self.prepared: dict[tuple[int, int], dict[str, list]] = {}
        self.set_cfg(cfg)

    def shape(self, setting: Setting) -> tuple[int, int, int]:
        """Of one picture's latent."""
        channels = self.model_patcher.model.diffusion_model.config.in_channels
        return channels, setting.height_px // PX_PER_LATENT, setting.width_px // PX_PER_LATENT

    def run(self, noise: Tensor, batch: int, work: Callable[[Answer], Result]) -> Result:
        """What `work` returns, called where the model is loaded and answers."""
        first = slice(0, min(batch, len(noise)))
        self.set_conds(*self._conditioning(first))
        sampler = _Inside(self, work)
        # Not zeros alone: of an empty latent some hosts make another size.
        empty = torch.zeros_like(noise[first])
        self.sample(noise[first], empty, sampler, torch.tensor([1.0, 0.0]), disable_pbar=True)
        return sampler.result

    def _conditioning(self, part: slice) -> tuple[Conditioning, Conditioning]:
        rows = self.rows[part]
        return _rows_of(self.positive, rows), _rows_of(self.negative, rows)

    def prepare(self, part: slice, like: Tensor) -> None:
        """Make the prompts of these pictures those that the model is asked with."""
        key = (part.start, part.stop)
        if key not in self.prepared:
            sides = zip(("positive", "negative"), self._conditioning(part), strict=True)
            conds = {name: comfy.sampler_helpers.convert_cond(side) for name, side in sides}
            self.prepared[key] = comfy.samplers.process_conds(
                self.inner_model, like, conds, like.device, latent_shapes=[like.shape]
            )
        self.conds = self.prepared[key]


class _Inside(comfy.samplers.Sampler):
    """Stands where the host expects a sampler, and works there."""

    def __init__(self, guider: FitGuider, work: Callable[[Answer], Result]) -> None:
        self.guider, self.work = guider, work

    def sample(
        self,
        model_wrap: FitGuider,
        sigmas: Tensor,
        extra_args: Mapping[str, object],
        callback: object,
        noise: Tensor,
        *rest: object,
        **named: object,
    ) -> Tensor:
        """The noise itself, once the work is done."""

        def answer(part: slice, x: Tensor, sigma: Tensor) -> Tensor:
            x, sigma = x.to(noise), sigma.to(noise)
            self.guider.prepare(part, x)
            denoised = model_wrap(x, sigma, **extra_args)
            return denoised.to("cpu", torch.float32)

        self.result = self.work(answer)
        return torch.zeros_like(noise)


def _rows_of(conditioning: Conditioning, rows: list[int]) -> Conditioning:
    """The CONDITIONING of a batch: row i of it is prompt rows[i]."""
    return [
        [_picked(features, rows), {k: _picked(v, rows) for k, v in options.items()}]
        for features, options in conditioning
    ]


def _picked(value: object, rows: list[int]) -> object:
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    return value[rows] if len(value) > 1 else value


def _digest(conditioning: Conditioning) -> str:
    digest = hashlib.sha256()
    for features, options in conditioning:
        mask = options.get("attention_mask")
        for item in (features, mask):
            if isinstance(item, Tensor):
                digest.update(item.to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _model_name(model: ModelPatcher) -> str:
    """The name of its file, if it is known."""
    init = getattr(model, "cached_patcher_init", None)
    return Path(init[1][0]).stem if init else "model"


def _noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed % 2**63))
