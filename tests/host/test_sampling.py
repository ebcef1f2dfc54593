"""The sampling nodes: KSampler's behavior, and the released code's numbers.

A tiny random model takes part. Where KSampler can do the same run (Euler on uniform steps) it is
the oracle; for the released loop that is torchdiffeq around the plain model.
"""

import io as bytes_io

import pytest
import torch
from torch.testing import assert_close
from torchdiffeq import odeint

from lumina_next.lumina.schedules import SCHEDULES
from lumina_next.lumina.solvers import SOLVERS
from lumina_next.lumina.solvers.plans import PRESETS
from lumina_next.tests.support import tiny
from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.sampling_nodes import STEPS, custom, empty, inputs_of, sample
from lumina_next.tests.support.tiny import GUIDANCE, NEGATIVE, POSITIVE, SDXL_SCALE, SEED


@pytest.fixture
def model(host):
    tiny.write_models(host)
    return node(
        "LuminaNextModelLoader",
        model_name="native.safetensors",
        weight_dtype="default",
        latent_format="SDXL",
    )


def picture(batch=1):
    return {"samples": torch.randn(batch, 4, 8, 6, generator=torch.manual_seed(1)) / SDXL_SCALE}


def left_half(batch=1):
    """A noise mask in pixels: the left half may change."""
    mask = torch.zeros(batch, 64, 48)
    mask[:, :, :24] = 1
    return mask


class Counter:
    """Stands before a model's network: counts its calls, and interrupts after so many."""

    def __init__(self, interrupt_after=None):
        self.calls = 0
        self.interrupt_after = interrupt_after

    def __call__(self, apply_model, args):
        import comfy.model_management

        self.calls += 1
        if self.calls == self.interrupt_after:
            comfy.model_management.interrupt_current_processing()
        return apply_model(args["input"], args["timestep"], **args["c"])


def counted(model, **settings):
    model, counter = model.clone(), Counter(**settings)
    model.set_model_unet_function_wrapper(counter)
    return model, counter


# The same as KSampler


LATENTS = {
    "an empty latent": empty(),
    "a batch of two": empty(batch=2),
    "chosen pictures of a batch": {**empty(batch=2), "batch_index": [3, 1]},
    "an empty latent of another model": empty(channels=16),
    "an empty latent of another scale": {**empty(), "downscale_ratio_spacial": 16},
    "a picture": picture(),
    "a picture with a noise mask": {**picture(2), "noise_mask": left_half(2)},
    "an odd size": empty(height=7, width=9),
}


@pytest.mark.parametrize("denoise", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("name", LATENTS)
def test_euler_on_uniform_steps_is_ksampler(model, name, denoise):
    import nodes

    latent = LATENTS[name]
    before = latent["samples"].clone()
    settings = SEED, STEPS, GUIDANCE, "euler", "simple", POSITIVE, NEGATIVE
    (expected,) = nodes.common_ksampler(model, *settings, latent, denoise=denoise)
    found, denoised = sample(model, custom("uniform", "euler"), latent, denoise=denoise)
    assert found.keys() == denoised.keys() == expected.keys()
    assert found["samples"].dtype == expected["samples"].dtype
    assert_close(found["samples"], expected["samples"])
    # Euler's last step goes to what the model expects the picture to be.
    assert_close(denoised["samples"], found["samples"])
    assert latent["samples"].equal(before)


def test_node_is_the_native_custom_sampler_to_the_bit(model):
    sigmas = node("LuminaNextScheduler", schedule={"schedule": "uniform"}, steps=7, denoise=1.0)
    expected = node(
        "SamplerCustomAdvanced",
        noise=node("RandomNoise", noise_seed=SEED),
        guider=node("CFGGuider", model=model, positive=POSITIVE, negative=NEGATIVE, cfg=GUIDANCE),
        sampler=node("KSamplerSelect", sampler_name="euler"),
        sigmas=sigmas,
        latent_image=picture(2),
    )
    found = sample(model, custom("uniform", "euler", steps=7), picture(2))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["samples"].equal(theirs["samples"])


@pytest.mark.parametrize("solver", ["midpoint", "rk4", "dopri5"])
def test_node_is_our_scheduler_and_solver_in_the_native_custom_sampler(model, solver):
    options = {"rtol": 1e-2, "atol": 1e-2, "max_steps": 50} if solver == "dopri5" else {}
    expected = node(
        "SamplerCustom",
        model=model,
        add_noise=True,
        noise_seed=SEED,
        cfg=GUIDANCE,
        positive=POSITIVE,
        negative=NEGATIVE,
        sampler=node("LuminaNextSolver", solver={"solver": solver, **options}),
        sigmas=node(
            "LuminaNextScheduler",
            schedule={"schedule": "rational", "shift": 3.0},
            steps=STEPS,
            denoise=0.7,
        ),
        latent_image=picture(),
    )
    preset = custom("rational", solver, parameters={"shift": 3.0}, **options)
    found = sample(model, preset, picture(), denoise=0.7)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["samples"].equal(theirs["samples"])


@pytest.mark.parametrize("solver", SOLVERS)
def test_noise_mask_keeps_what_it_covers(model, solver):
    latent = {**picture(), "noise_mask": left_half()}
    preset = custom("sigmoid", solver, steps=10)
    changed = sample(model, preset, latent)[0]["samples"] - latent["samples"]
    spread = latent["samples"].std()
    # The VAE turns less than a thousandth of the spread into less than one step of a pixel's 255.
    assert changed[..., 3:].abs().max() < 1e-3 * spread
    assert changed[..., :3].std() > 0.1 * spread


@pytest.mark.parametrize("solver", ["midpoint", "rk4"])
def test_pictures_of_a_batch_are_those_of_their_seeds_noise(model, solver):
    """The second picture of a batch is drawn again by its index, as with KSampler."""
    preset = custom("sigmoid", solver)
    both, _ = sample(model, preset, empty(batch=2))
    second, _ = sample(model, preset, {**empty(), "batch_index": [1]})
    tiny.assert_same_picture(both["samples"][1:], second["samples"])


# The released code


def released_loop(points, shift, size, seed):
    """Lumina-Next's sampling: torchdiffeq over `points` shifted times, 3 of 4 channels guided."""
    network = tiny.plain_model()
    captions = POSITIVE[0][0], NEGATIVE[0][0]

    def velocity(t, x):
        wanted, unwanted = (network(x, t.expand(len(x)), caption) for caption in captions)
        guided = unwanted + GUIDANCE * (wanted - unwanted)
        return torch.cat([guided[:, :3], wanted[:, 3:]], dim=1)

    t = torch.linspace(0, 1, points)
    t = t / (t + shift - shift * t)
    noise = torch.randn(1, 4, *size, generator=torch.manual_seed(seed))
    return odeint(velocity, noise, t, method="midpoint")[-1] / SDXL_SCALE


def test_as_released_is_the_released_loop(model):
    found, _ = sample(model, "As released", empty(height=16, width=12))
    tiny.assert_same_picture(found["samples"], released_loop(30, 4.0, (16, 12), SEED))


# While it runs


@pytest.fixture
def progress(host):
    """(value, total, preview) of every message to the editor's progress bar, with previews on."""
    import comfy.utils
    import latent_preview

    messages, hook = [], comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(
        lambda value, total, preview, **_: messages.append((value, total, preview))
    )
    latent_preview.set_preview_method("latent2rgb")
    yield messages
    latent_preview.set_preview_method(None)
    comfy.utils.set_progress_bar_global_hook(hook)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_every_step_is_shown_with_a_preview(model, progress, solver):
    sample(model, custom("sigmoid", solver))
    assert [message[:2] for message in progress] == [(i + 1, STEPS) for i in range(STEPS)]
    for _, _, (kind, image, _) in progress:
        assert kind == "JPEG" and image.size == (6, 8)
        image.save(bytes_io.BytesIO(), "JPEG")


def test_dopri5_shows_how_far_it_is(model, progress):
    sample(model, custom("sigmoid", "dopri5", steps=20))
    values = [value for value, _, _ in progress]
    assert values == sorted(values) and values[-1] == 20
    assert len(values) > 3 and all(preview for _, _, preview in progress)


@pytest.mark.parametrize("solver", ["euler", "rk4", "dopri5"])
def test_cancel_stops_within_the_model_call(model, solver):
    import comfy.model_management

    model, counter = counted(model, interrupt_after=3)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(model, custom("sigmoid", solver, steps=10))
    assert counter.calls == 3
    comfy.model_management.interrupt_current_processing(False)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_calls_the_model_as_often_as_it_says(model, name):
    model, counter = counted(model)
    sample(model, name, empty(height=2, width=2))
    assert counter.calls == PRESETS[name].model_calls
    (preset,) = [item for item in inputs_of("LuminaNextSampler") if item.id == "preset"]
    (line,) = [line for line in preset.tooltip.splitlines() if line.startswith(f"{name}: ")]
    assert f"{counter.calls} model calls" in line


def test_every_preset_is_there_to_choose(model):
    (preset,) = [item for item in inputs_of("LuminaNextSampler") if item.id == "preset"]
    assert [option.key for option in preset.options] == [*PRESETS, "Fitted", "Custom"]


def test_model_that_is_no_flow_is_refused(model):
    model = node("ModelSamplingDiscrete", model=model, sampling="eps", zsnr=False)
    with pytest.raises(ValueError, match='is no flow model.*"KSampler"'):
        sample(model, "Fast")


def test_shift_of_the_model_does_not_bend_the_schedule(model):
    """A shift set by a native node is for the native schedulers."""
    shifted = node("ModelSamplingAuraFlow", model=model, shift=5.0)
    preset = custom("sigmoid", "midpoint")
    expected, _ = sample(model, preset)
    assert_close(sample(shifted, preset)[0]["samples"], expected["samples"])


# Scheduler and solver


@pytest.mark.parametrize("name", SCHEDULES)
def test_scheduler_gives_the_schedule(host, name):
    given = {"shift": 2.0} if name == "rational" else {}
    found = node("LuminaNextScheduler", schedule={"schedule": name, **given}, steps=9, denoise=1.0)
    assert found.equal(SCHEDULES[name](9, **given))


@pytest.mark.parametrize("steps", [1, 7, 20])
@pytest.mark.parametrize("denoise", [1.0, 0.99, 0.3, 0.0])
def test_denoise_counts_like_the_native_scheduler(model, steps, denoise):
    found = node(
        "LuminaNextScheduler", schedule={"schedule": "uniform"}, steps=steps, denoise=denoise
    )
    native = node("BasicScheduler", model=model, scheduler="simple", steps=steps, denoise=denoise)
    # The native one knows a thousand sigmas and takes the nearest above.
    assert_close(found, native, rtol=0, atol=1.1e-3)
    assert found.dtype == native.dtype and found.device == native.device


@pytest.mark.parametrize("value", [None, {}])
def test_missing_choice_is_named(host, value):
    with pytest.raises(ValueError, match='"schedule" is missing or not in the list.*sigmoid, uni'):
        node("LuminaNextScheduler", schedule=value or None, steps=9, denoise=1.0)


def test_missing_choice_in_a_preset_is_named(model):
    with pytest.raises(ValueError, match='"preset.solver" is missing or not in the list.*rk4'):
        sample(
            model, {key: value for key, value in custom("sigmoid", 0).items() if key != "solver"}
        )
