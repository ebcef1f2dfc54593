"""The nodes of fitted solvers, on a tiny model: fit, load, use, and what they refuse."""

import json
import os
import shutil

import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch
from torch.testing import assert_close

from lumina_next.host import notices
from lumina_next.host.solvers import fitting
from lumina_next.host.solvers.files import folders, names
from lumina_next.host.solvers.setting import fingerprint_of
from lumina_next.lumina.solvers import SOLVERS
from lumina_next.lumina.solvers.fitted import read_fitted
from lumina_next.lumina.solvers.fitting import EFFORTS, MIN_PROMPTS, Effort, Sets, trajectories
from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.sampling_nodes import empty, sample
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE
from lumina_next.tools.environment import ROOT

CFG, WIDTH, HEIGHT = 4.0, 48, 64
FINE_SOLVER = "euler"  # quicker than the fit's own


@pytest.fixture
def model(host, monkeypatch):
    tiny.write_models(host)
    monkeypatch.setitem(EFFORTS, "quick", Effort(Sets(1, 1, 2), 3, 1))
    monkeypatch.setattr(trajectories, "FINE_SOLVER", FINE_SOLVER)
    shutil.rmtree(folders()[0], ignore_errors=True)
    return load("native.safetensors")


def load(name):
    return node(
        "LuminaNextModelLoader", model_name=name, weight_dtype="default", latent_format="SDXL"
    )


@pytest.fixture
def said(monkeypatch):
    """What nodes say."""
    texts = []
    monkeypatch.setattr(notices, "_tell", lambda text, level: texts.append(text))
    return texts


def prompts(count=MIN_PROMPTS):
    """CONDITIONING of so many prompts, as "Lumina-Next Text Encode" makes a batch."""
    features = torch.randn(count, 5, tiny.CONFIG.caption_dim, generator=torch.manual_seed(3))
    return [[features, {"attention_mask": torch.ones(count, 5, dtype=torch.long)}]]


def fit(model, positive=None, **changes):
    settings = {
        "negative": NEGATIVE,
        "cfg": CFG,
        "calls": 3,
        "width": WIDTH,
        "height": HEIGHT,
        "seed": 5,
        "effort": "quick",
        "file_name": "",
        "fallback": False,
    }
    return node(
        "LuminaNextFitSolver", model=model, positive=positive or prompts(), **settings | changes
    )


def files():
    return sorted(os.listdir(folders()[0])) if folders()[0].is_dir() else []


NAME = "native cfg 4 48x64.json"


def test_fit_writes_a_file_that_loads_as_the_same_solver(model, said):
    sampler, sigmas, image = fit(model)
    assert files() == [NAME] and image.shape == (1, 512, 768, 3)
    content = read_fitted(folders()[0] / NAME)
    assert content.setting.fingerprint == fingerprint_of(model)
    assert content.setting.architecture["dim"] == tiny.CONFIG.dim
    assert set(content.solvers[3].others) >= {"euler, sigmoid", "euler, normal", "dpmpp_2m, simple"}
    loaded, levels = node(
        "LuminaNextFittedSolverLoader", solver_name=NAME, calls=3, denoise=1.0, fallback=False
    )
    assert torch.equal(levels, sigmas)
    assert loaded.sampler_function == sampler.sampler_function == content.solvers[3].solver
    assert any("3 calls, error in the mean and of the worst picture" in text for text in said)


def test_fitted_pictures_are_those_of_the_model_alone(model):
    """The errors that the fit reports are those that a user's runs have."""
    fit(model)
    content = read_fitted(folders()[0] / NAME)
    rows, off, solver = prompts(), [], content.solvers[3].solver
    for row, prompt in zip((2, 3), (2, 5), strict=True):  # the report's two pictures, their prompts
        noise = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(5 + row))[None]
        positive = [[rows[0][0][prompt : prompt + 1], {}]]
        own = run(model, noise, positive, solver, solver.sigmas)
        fine = run(model, noise, positive, SOLVERS[FINE_SOLVER], torch.linspace(1, 0, 61).tolist())
        off.append((own - fine).square().mean().sqrt())
    assert_close(float(max(off)), content.solvers[3].errors.worst, rtol=2e-3, atol=1e-6)


def test_help_page_counts_the_solvers_to_compare_with(model):
    steps = sum(len(sigmas) - 1 for _, sigmas in fitting.compared(model, 10).values())
    page = (ROOT / "web" / "docs" / "LuminaNextFitSolver.md").read_text("utf-8")
    for name in ("normal", "thorough"):
        assert f"| {EFFORTS[name].picture_calls([10], steps):,} |" in page


def run(model, noise, positive, solver, sigmas):
    latent = torch.zeros_like(noise)
    sampler = comfy.samplers.KSAMPLER(solver)
    inputs = (sampler, torch.tensor(sigmas), positive, NEGATIVE, latent)
    drawn = comfy.sample.sample_custom(model, noise, CFG, *inputs, disable_pbar=True)
    return model.model.process_latent_in(drawn)


def test_second_fit_of_the_same_is_read_from_the_file(model, said, monkeypatch):
    fit(model)
    monkeypatch.setattr(fitting, "fit", None)
    fit(model)


def test_other_number_of_calls_joins_the_file(model):
    fit(model)
    fit(model, calls=4)
    assert sorted(read_fitted(folders()[0] / NAME).solvers) == [3, 4]


def test_cancelled_fit_leaves_no_file_and_goes_on(model, monkeypatch):
    def cancelled(*arguments):
        raise comfy.model_management.InterruptProcessingException

    watched, counter = counted(model)
    with monkeypatch.context() as patched:
        patched.setattr("lumina_next.lumina.solvers.fitting.run.Search.best", cancelled)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            fit(watched)
    assert NAME not in files() and len(files()) == 1  # the folder with what was done
    before, trajectories_of_two = counter.calls, 2 * 60
    assert before == trajectories_of_two
    fit(watched)
    resumed = counter.calls - before
    fit(watched, seed=6)
    assert counter.calls - before - resumed > resumed + 0.8 * trajectories_of_two
    assert files() == [NAME]


def test_cancel_is_heard_between_model_calls(model):
    watched, counter = counted(model, interrupt_after=5)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        fit(watched)
    assert counter.calls < 10 and NAME not in files()


class Counter:
    """Stands before a model's network: counts its calls, and interrupts after so many."""

    def __init__(self, interrupt_after=None):
        self.calls, self.interrupt_after = 0, interrupt_after

    def __call__(self, apply_model, args):
        self.calls += 1
        if self.calls == self.interrupt_after:
            comfy.model_management.interrupt_current_processing()
        return apply_model(args["input"], args["timestep"], **args["c"])


def counted(model, **settings):
    model, counter = model.clone(), Counter(**settings)
    model.set_model_unet_function_wrapper(counter)
    return model, counter


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"positive": prompts(23)}, "at least 24 different prompts"),
        ({"positive": POSITIVE}, "at least 24 different prompts.*there are 1"),
        ({"positive": prompts() * 2}, "A fit takes plain prompts"),
        ({"negative": prompts(3)}, '"negative" has 3 prompts and "positive" 24'),
        ({"calls": 31}, "calls must be a whole number from 2 to 30, got 31"),
        ({"cfg": 101.0}, "cfg must be from 0 to 100"),
        ({"width": 40}, "width must be a multiple of 16 pixels"),
        ({"file_name": "../x"}, '"file_name" must be a bare file name'),
        ({"model": 5}, 'The input "model" needs a MODEL'),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_a_sentence(model, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(**{"model": model, **changes})
    assert files() == []


def test_fit_at_cfg_1_needs_no_negative_prompt(model):
    fit(model, cfg=1.0)
    assert files() == ["native cfg 1 48x64.json"]


# Use

_once = {}


def fitted(model):
    """The file that `fit` writes, made once."""
    if not _once:
        fit(model)
        _once["file"] = (folders()[0] / NAME).read_bytes()
    folders()[0].mkdir(exist_ok=True)
    (folders()[0] / NAME).write_bytes(_once["file"])


def loaded(calls=3, denoise=1.0, **rest):
    return node(
        "LuminaNextFittedSolverLoader",
        solver_name=NAME,
        calls=calls,
        denoise=denoise,
        fallback=False,
        **rest,
    )


def custom_sample(model, sampler, sigmas, latent=None, cfg=CFG):
    return node(
        "SamplerCustom",
        model=model,
        add_noise=True,
        noise_seed=3,
        cfg=cfg,
        positive=POSITIVE,
        negative=NEGATIVE,
        sampler=sampler,
        sigmas=sigmas,
        latent_image=latent or empty(),
    )[0]["samples"]


def test_preset_draws_what_the_loaded_solver_draws(model):
    fitted(model)
    drawn = sample(model, {"preset": "Fitted", "calls": 3}, seed=3)[0]["samples"]
    assert_close(drawn, custom_sample(model, *loaded()))


def test_preset_without_a_fitted_solver_is_refused_in_a_sentence(model):
    with pytest.raises(
        ValueError, match='No solver is fitted to this MODEL, as the preset "Fitted"'
    ):
        sample(model, {"preset": "Fitted", "calls": 3})


def test_preset_names_the_calls_that_were_fitted(model):
    fitted(model)
    with pytest.raises(ValueError, match=r"has no solver of 7 calls. It has: 3\."):
        sample(model, {"preset": "Fitted", "calls": 7})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"cfg": 2.0}, "cfg 2 in place of 4"),
        ({"latent": empty(height=8, width=8)}, "64 x 64 px in place of 48 x 64"),
        ({}, None),
    ],
)
def test_run_that_was_not_fitted_is_said(model, said, change, message):
    fitted(model)
    run_of = loaded()
    said.clear()
    custom_sample(model, *run_of, **change)
    assert said == [] if message is None else message in said[0]


def test_lora_makes_it_another_model(model, said):
    fitted(model)
    run_of, changed = loaded(), model.clone()
    key = "diffusion_model.layers.0.attention.wq.weight"
    changed.add_patches({key: ("diff", (torch.ones(32, 32),))}, 0.5)
    said.clear()
    custom_sample(changed, *run_of)
    assert "another model, or a LoRA on it" in said[0]
    other = model.clone()
    other.add_patches({key: ("diff", (torch.ones(32, 32),))}, 0.7)
    assert len({fingerprint_of(m) for m in (model, changed, other)}) == 3
    assert fingerprint_of(model.clone()) == fingerprint_of(model)


def test_denoise_below_1_starts_at_one_of_its_levels(model, said):
    fitted(model)
    sampler, sigmas = loaded(denoise=0.5)
    assert 1 <= len(sigmas) - 1 < 3 and abs(float(sigmas[0]) - 0.5) < 0.4
    assert any("starts at the solver's noise level" in text for text in said)
    custom_sample(model, sampler, sigmas)


def test_masked_pixels_come_out_as_they_were(model):
    fitted(model)
    picture = torch.randn(1, 4, 8, 6, generator=torch.manual_seed(1)) / tiny.SDXL_SCALE
    mask = torch.zeros(1, 64, 48)
    mask[:, :, :24] = 1
    drawn = custom_sample(model, *loaded(), latent={"samples": picture, "noise_mask": mask})
    assert_close(drawn[..., 3:], picture[..., 3:], atol=1e-4, rtol=0)
    assert (drawn[..., :3] - picture[..., :3]).abs().max() > 0.1


def test_solver_that_is_no_better_is_said_and_replaced(model, said):
    fitted(model)
    path = folders()[0] / NAME
    content = json.loads(path.read_text())
    content["solvers"][0]["errors"]["worst"] = 9.0
    path.write_text(json.dumps(content))
    said.clear()
    sampler, _ = loaded()
    assert "no better than euler with the sigmoid schedule" in said[0]
    kept = sampler.sampler_function
    replaced, sigmas = node(
        "LuminaNextFittedSolverLoader", solver_name=NAME, calls=3, denoise=1.0, fallback=True
    )
    assert replaced.sampler_function is not kept and len(sigmas) == 4


def test_damaged_and_missing_files_are_named_before_anything_runs(model):
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS["LuminaNextFittedSolverLoader"]
    assert kind.validate_inputs(solver_name=None) is True
    assert "is not in models/lumina_next_solvers" in kind.validate_inputs(solver_name="none.json")
    assert "is not in models" in kind.validate_inputs(solver_name="../../x.json")
    folders()[0].mkdir(exist_ok=True)
    (folders()[0] / "bad.json").write_text("{}")
    assert "bad.json is no fitted solver" in kind.validate_inputs(solver_name="bad.json")
    assert "bad.json" in names()
