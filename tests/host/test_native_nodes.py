"""ComfyUI's own nodes on our MODEL and CLIP: each one does what it promises, to the number.

A tiny random model takes part, so most promises can be computed by hand. With one step of Euler's
rule a sampler returns the model's first guess of the picture, in which guidance is a plain sum.
"""

import functools
import gc
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.demo.training import autoencoder
from lumina_next.tests.support import tiny
from lumina_next.tests.support.tiny import NEGATIVE, POSITIVE, assert_same_picture
from lumina_next.tools import environment

OTHER = tiny.conditioning(11, seed=3)
GUIDANCE = 4.0
DEMO_VAE = environment.ROOT / "demo" / "models" / "vae" / "lumina-next-demo.safetensors"


def node(name, **inputs):
    """What ComfyUI's node of that name puts out; without the tuple if that is one thing."""
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS[name]
    out = getattr(kind(), kind.FUNCTION)(**inputs)
    out = getattr(out, "args", out)
    return out[0] if isinstance(out, tuple) and len(out) == 1 else out


def load(name="native.safetensors"):
    return node(
        "LuminaNextModelLoader", model_name=name, weight_dtype="default", latent_format="SDXL"
    )


@pytest.fixture
def model(host):
    tiny.write_models(host)
    return load()


@pytest.fixture
def clip(host):
    tiny.write_gemma(host)
    name = "gemma.safetensors"
    return node("LuminaNextTextEncoderLoader", text_encoder_name=name, device="default")


def empty(height=16, width=12, batch=1):
    return {"samples": torch.zeros(batch, 4, height, width)}


def sample(model, positive=POSITIVE, negative=NEGATIVE, latent=None, **settings):
    """KSampler's latent; by default three steps of Euler at guidance 4 from an empty latent."""
    settings = {
        "seed": 7, "steps": 3, "cfg": GUIDANCE, "sampler_name": "euler", "scheduler": "normal",
        "denoise": 1.0, **settings,
    }  # fmt: skip
    out = node(
        "KSampler",
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent or empty(),
        **settings,
    )
    return out["samples"]


def guess(model, positive=POSITIVE, negative=NEGATIVE, cfg=1.0):
    """The model's guess of the picture from pure noise."""
    return sample(model, positive, negative, steps=1, cfg=cfg)


def guided(wanted, unwanted, strength=GUIDANCE):
    """Classifier-free guidance as the released code does it: on three of the four channels."""
    out = unwanted + strength * (wanted - unwanted)
    return torch.cat([out[:, :3], wanted[:, 3:]], dim=1)


def advanced(model, start, end, latent=None, positive=POSITIVE, *, noise, leftover, steps=4):
    """KSamplerAdvanced from step `start` to step `end` of `steps`."""
    yes_no = {True: "enable", False: "disable"}
    return node(
        "KSamplerAdvanced",
        model=model, positive=positive, negative=NEGATIVE, latent_image=latent or empty(),
        add_noise=yes_no[noise], return_with_leftover_noise=yes_no[leftover], noise_seed=7,
        steps=steps, cfg=GUIDANCE, sampler_name="euler", scheduler="normal",
        start_at_step=start, end_at_step=end,
    )  # fmt: skip


def differs(found, other):
    """Whether two latents are visibly different: by a hundredth of the spread, on average."""
    return bool((found - other).abs().mean() > 0.01 * other.std())


# --- samplers


def unusable(samplers, schedulers, model):
    """Which pairs fail, or give anything but finite numbers that depend on the model."""
    problems = {}
    for sampler in samplers:
        for scheduler in schedulers:
            try:
                out = sample(
                    model, latent=empty(8, 8), sampler_name=sampler, scheduler=scheduler, steps=2
                )
            except Exception as error:
                problems[sampler, scheduler] = repr(error)
                continue
            if not out.isfinite().all() or out.std() == 0:
                problems[sampler, scheduler] = out
    return problems


def test_every_sampler_gives_finite_numbers(model):
    import comfy.samplers

    samplers = comfy.samplers.KSampler.SAMPLERS
    assert len(samplers) > 40
    assert not unusable(samplers, ["normal"], model)


def test_every_scheduler_gives_finite_numbers(model):
    import comfy.samplers

    assert not unusable(["euler"], comfy.samplers.KSampler.SCHEDULERS, model)


def test_two_halves_are_one_run(model):
    half = advanced(model, 0, 2, noise=True, leftover=True)
    whole = advanced(model, 2, 4, half, noise=False, leftover=False)["samples"]
    assert_same_picture(whole, sample(model, steps=4))
    assert differs(half["samples"], whole)


def custom(guider, steps=3):
    """SamplerCustomAdvanced with the noise, steps and sampler of `sample`."""
    sigmas = node(
        "BasicScheduler", model=guider.model_patcher, scheduler="normal", steps=steps, denoise=1.0
    )
    out = node(
        "SamplerCustomAdvanced",
        noise=node("RandomNoise", noise_seed=7),
        guider=guider,
        sampler=node("KSamplerSelect", sampler_name="euler"),
        sigmas=sigmas,
        latent_image=empty(),
    )
    return out[0]["samples"]


def test_basic_guider_is_guidance_1(model):
    found = custom(node("BasicGuider", model=model, conditioning=POSITIVE))
    assert_close(found, sample(model, cfg=1.0), rtol=0, atol=0)


def test_cfg_guider_is_ksampler(model):
    guider = node("CFGGuider", model=model, positive=POSITIVE, negative=NEGATIVE, cfg=GUIDANCE)
    assert_close(custom(guider), sample(model), rtol=0, atol=0)


def test_dual_cfg_guider_adds_a_second_prompt(model):
    guider = node(
        "DualCFGGuider", model=model, cond1=POSITIVE, cond2=OTHER, negative=NEGATIVE,
        cfg_conds=2.0, cfg_cond2_negative=GUIDANCE, style="regular",
    )  # fmt: skip
    first, second, negative = (guess(model, c) for c in (POSITIVE, OTHER, NEGATIVE))
    expected = guided(second, negative) + 2.0 * (first - second)
    assert_same_picture(custom(guider, steps=1), expected)


def test_picture_of_a_batch_is_the_one_drawn_alone(model):
    batch = empty(16, 12, batch=3)
    alone = node("LatentFromBatch", samples=batch, batch_index=2, length=1)
    assert_same_picture(sample(model, latent=batch)[2:], sample(model, latent=alone))


# --- guidance and patches


def test_rescaled_guidance_has_the_spread_of_the_prompt(model):
    none = node("RescaleCFG", model=model, multiplier=0.0)
    assert_same_picture(guess(none, cfg=GUIDANCE), guess(model, cfg=GUIDANCE))

    # In the terms of the node, at sigma 1, from pure noise: v = sqrt(2) * (picture - noise / 2).
    noise = torch.randn(1, 4, 16, 12, generator=torch.manual_seed(7))

    def v(picture):
        return 2**0.5 * (picture * tiny.SDXL_SCALE - noise / 2)

    full = guess(node("RescaleCFG", model=model, multiplier=1.0), cfg=GUIDANCE)
    wanted, unwanted = v(guess(model)), v(guess(model, NEGATIVE))
    plain = unwanted + GUIDANCE * (wanted - unwanted)
    expected = plain * wanted.std() / plain.std()
    assert_same_picture(v(full)[:, :3], expected[:, :3])
    assert differs(full, guess(model, cfg=GUIDANCE))


def test_renormed_guidance_has_the_length_of_the_prompt(model):
    renormed = node("RenormCFG", model=model, cfg_trunc=100.0, renorm_cfg=1.0)
    wanted, unwanted = guess(model), guess(model, NEGATIVE)
    plain = unwanted + GUIDANCE * (wanted - unwanted)
    assert plain.norm() > wanted.norm()
    expected = plain * wanted.norm() / plain.norm()
    assert_same_picture(guess(renormed, cfg=GUIDANCE)[:, :3], expected[:, :3])
    truncated = node("RenormCFG", model=model, cfg_trunc=0.0, renorm_cfg=1.0)
    assert_same_picture(guess(truncated, cfg=GUIDANCE), wanted)


def test_skip_layer_guidance_leads_away_from_the_model_without_the_layer(model):
    skipping = node(
        "SkipLayerGuidanceDiT", model=model, double_layers="1", single_layers="", scale=2.5,
        start_percent=0.0, end_percent=1.0, rescaling_scale=0.0,
    )  # fmt: skip
    without = model.clone()
    without.set_model_patch_replace(lambda args, extra: args, "dit", "double_block", 1)
    wanted, unwanted, worse = guess(model), guess(model, NEGATIVE), guess(without)
    assert differs(worse, wanted)
    expected = guided(wanted, unwanted) + 2.5 * (wanted - worse)
    assert_same_picture(guess(skipping, cfg=GUIDANCE), expected)


def test_simple_skip_layer_guidance_weakens_the_negative(model):
    skipping = node(
        "SkipLayerGuidanceDiTSimple", model=model, double_layers="0, 2", single_layers="",
        start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    without = model.clone()
    for layer in (0, 2):
        without.set_model_patch_replace(lambda args, extra: args, "dit", "double_block", layer)
    assert differs(guess(without, NEGATIVE), guess(model, NEGATIVE))
    expected = guided(guess(model), guess(without, NEGATIVE))
    assert_same_picture(guess(skipping, cfg=GUIDANCE), expected)


def test_normalized_attention_guidance_makes_the_negative_count_at_guidance_1(model):
    def nag(alpha):
        return node("NAGuidance", model=model, nag_scale=5.0, nag_alpha=alpha, nag_tau=1.5)

    assert_same_picture(guess(model, POSITIVE, OTHER), guess(model, POSITIVE, NEGATIVE))
    assert differs(guess(nag(0.5), POSITIVE, OTHER), guess(nag(0.5), POSITIVE, NEGATIVE))
    assert_same_picture(guess(nag(0.0)), guess(model))


def test_rope_is_scaled_only_where_the_scale_is_not_1(model):
    def rope(**changes):
        settings = {"scale_x": 1.0, "scale_y": 1.0, "scale_t": 1.0} | changes
        shifts = {"shift_x": 0.0, "shift_y": 0.0, "shift_t": 0.0}
        return node("ScaleROPE", model=model, **shifts, **settings)

    assert_close(sample(rope()), sample(model), rtol=0, atol=0)
    wide, tall = sample(rope(scale_x=0.3)), sample(rope(scale_y=0.3))
    assert differs(wide, sample(model)) and differs(tall, sample(model)) and differs(wide, tall)


def counted(model):
    """A clone of the model and the list that each forward pass, as it ends, adds to."""
    passes = []

    def note(seen):
        passes.extend([len(seen["img"])] if seen["block_index"] == 0 else [])
        return {"img": seen["img"]}

    model = model.clone()
    model.set_model_double_block_patch(note)
    return model, passes


@pytest.mark.parametrize("cache", ["EasyCache", "LazyCache"])
def test_cache_skips_passes_above_its_threshold_only(model, cache):
    model, passes = counted(model)

    def cached(threshold):
        return node(
            cache, model=model, reuse_threshold=threshold, start_percent=0.0, end_percent=1.0,
            verbose=False,
        )  # fmt: skip

    base = sample(model, steps=8)
    assert passes == [2] * 8
    assert_close(sample(cached(0.0), steps=8), base, rtol=0, atol=0)
    assert passes == [2] * 16
    quick = sample(cached(3.0), steps=8)
    assert len(passes) - 16 < 6
    assert quick.isfinite().all() and differs(quick, base)


@pytest.fixture
def shallow(host):
    """A model of one layer: compiling takes seconds for each."""
    kept = {key: tensor for key, tensor in tiny.weights().items() if not is_deep(key)}
    save_file(kept, host.models / "diffusion_models" / "shallow.safetensors")
    return load("shallow.safetensors")


def is_deep(key):
    return key.startswith("layers.") and not key.startswith("layers.0.")


def test_compiled_model_is_one_graph_for_all_steps_and_settings(shallow, monkeypatch):
    import comfy.ldm.modules.attention as attention
    import torch._dynamo
    from torch._dynamo.utils import counters

    # The attention of graphics cards; the CPU's own asks for free memory and breaks the graph.
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    torch._dynamo.reset()
    counters.clear()
    compiled = node("TorchCompileModel", model=shallow, backend="aot_eager")

    def scaled(model, scale):
        return node(
            "ScaleROPE", model=model, scale_x=scale, shift_x=0.0, scale_y=1.0, shift_y=0.0,
            scale_t=1.0, shift_t=0.0,
        )  # fmt: skip

    assert_same_picture(sample(compiled), sample(shallow))
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    for scale in (0.5, 0.25):
        assert_same_picture(sample(scaled(compiled, scale)), sample(scaled(shallow, scale)))
    assert counters["stats"]["unique_graphs"] == 2
    assert differs(sample(scaled(compiled, 0.5)), sample(compiled))


# --- inpainting


def picture(height=16, width=12):
    samples = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(5))
    return {"samples": samples / tiny.SDXL_SCALE}


def test_unmasked_latent_is_kept(model):
    mask = torch.zeros(1, 128, 96)
    mask[:, :, 48:] = 1
    latent = node("SetLatentNoiseMask", samples=picture(), mask=mask)
    out, before = sample(model, latent=latent), picture()["samples"]
    assert_same_picture(out[..., :6], before[..., :6])
    assert differs(out[..., 6:], before[..., 6:])


def test_differential_diffusion_starts_where_the_mask_says(model):
    model = node("DifferentialDiffusion", model=model, strength=1.0)
    latent = node("SetLatentNoiseMask", samples=picture(), mask=torch.full((1, 128, 96), 0.5))
    # Steps at 1, 2/3, 1/3: a mask of a half lets the picture change from the third on.
    late = advanced(model, 2, 4, picture(), noise=True, leftover=False)["samples"]
    assert_same_picture(sample(model, latent=latent, steps=4), late)
    assert differs(late, sample(model, latent=picture(), steps=4))


def test_denoise_below_1_begins_with_the_picture(model):
    found = sample(model, latent=picture(), denoise=0.5, steps=2)
    expected = advanced(model, 2, 4, picture(), noise=True, leftover=False)["samples"]
    assert_same_picture(found, expected)


# --- prompts


def encode(clip, text):
    ((features, rest),) = node("CLIPTextEncode", clip=clip, text=text)
    return features, rest["attention_mask"]


# The tokenizer knows "under" together with the space before it, as Gemma's does most words.
UNDER = "a dog (under:{}) the mat"


def test_weighted_word_keeps_the_space_in_its_token(clip):
    def pieces(text):
        (tokens,) = clip.tokenize(text).values()
        vocabulary = clip.tokenizer.gemma_2b.inv_vocab
        return [(vocabulary[token], weight) for token, weight in tokens[0]]

    plain, weighted = pieces("a dog under the mat"), pieces(UNDER.format(1.3))
    assert ("\u2581under", 1.0) in plain
    expected = [(piece, 1.3 if "under" in piece else 1.0) for piece, _ in plain]
    assert weighted == expected


def test_weight_1_is_no_weight(clip):
    plain, weighted = encode(clip, "a dog under the mat"), encode(clip, UNDER.format(1.0))
    assert_close(weighted, plain, rtol=0, atol=0)


def test_weight_changes_its_own_tokens_only(clip):
    plain, _ = encode(clip, "a dog under the mat")
    weighted, _ = encode(clip, UNDER.format(1.3))
    (tokens,) = clip.tokenize(UNDER.format(1.3)).values()
    changed = (plain - weighted).abs().amax(-1)[0] > 1e-4
    assert changed.tolist() == [weight != 1 for _, weight in tokens[0]]


def test_combined_prompts_are_averaged(model):
    both = node("ConditioningCombine", conditioning_1=POSITIVE, conditioning_2=OTHER)
    assert_same_picture(guess(model, both), (guess(model, POSITIVE) + guess(model, OTHER)) / 2)


def test_concatenated_prompts_are_one_longer_prompt(model):
    joined = node("ConditioningConcat", conditioning_to=POSITIVE, conditioning_from=OTHER)
    features = torch.cat([POSITIVE[0][0], OTHER[0][0]], dim=1)
    whole = [[features, {"attention_mask": torch.ones(1, 22, dtype=torch.long)}]]
    assert_same_picture(guess(model, joined), guess(model, whole))
    assert differs(guess(model, joined), guess(model, POSITIVE))


@pytest.mark.parametrize("strength", [1.0, 0.0, 0.25])
def test_averaged_prompts_lie_between(model, strength):
    mixed = node(
        "ConditioningAverage", conditioning_to=POSITIVE, conditioning_from=OTHER,
        conditioning_to_strength=strength,
    )  # fmt: skip
    features = strength * POSITIVE[0][0] + (1 - strength) * OTHER[0][0]
    assert_same_picture(guess(model, mixed), guess(model, [[features, POSITIVE[0][1]]]))


def test_zeroed_prompt_is_one_of_zeros(model):
    zeroed = node("ConditioningZeroOut", conditioning=POSITIVE)
    zeros = [[torch.zeros_like(POSITIVE[0][0]), POSITIVE[0][1]]]
    assert_close(guess(model, zeroed), guess(model, zeros), rtol=0, atol=0)
    assert differs(guess(model, zeroed), guess(model))


def test_area_prompt_acts_inside_its_area(model):
    area = node(
        "ConditioningSetArea", conditioning=OTHER, width=64, height=72, x=32, y=40, strength=1.0
    )
    base, found = guess(model), guess(model, [*POSITIVE, *area])
    inside = torch.zeros(16, 12, dtype=torch.bool)
    inside[5:14, 4:12] = True
    assert_same_picture(found[..., ~inside], base[..., ~inside])
    assert differs(found[..., inside], base[..., inside])


def test_masked_prompts_share_the_picture(model):
    left = torch.zeros(1, 128, 96)
    left[..., :48] = 1

    def masked(conditioning, mask):
        return node(
            "ConditioningSetMask", conditioning=conditioning, mask=mask, strength=1.0,
            set_cond_area="default",
        )  # fmt: skip

    found = guess(model, [*masked(POSITIVE, left), *masked(OTHER, 1 - left)])
    assert_same_picture(found[..., :6], guess(model, POSITIVE)[..., :6])
    assert_same_picture(found[..., 6:], guess(model, OTHER)[..., 6:])


def test_prompt_of_a_time_range_acts_in_it(model):
    early = node("ConditioningSetTimestepRange", conditioning=POSITIVE, start=0.0, end=0.5)
    late = node("ConditioningSetTimestepRange", conditioning=OTHER, start=0.5, end=1.0)
    half = advanced(model, 0, 2, noise=True, leftover=True)
    expected = advanced(model, 2, 4, half, OTHER, noise=False, leftover=False)["samples"]
    assert_same_picture(sample(model, [*early, *late], steps=4), expected)
    assert differs(sample(model, steps=4), expected)


# --- changed weights

KEYS = (
    "layers.0.attention.wq.weight",
    "layers.1.attention.gate",
    "layers.2.feed_forward.w2.weight",
    "layers.2.adaLN_modulation.1.weight",
    "final_layer.linear.weight",
)


def kohya(name):
    name = "lora_unet_" + name.replace(".", "_")
    return f"{name}.lora_up.weight", f"{name}.lora_down.weight"


def as_in_the_model(name):
    return f"diffusion_model.{name}.lora_B.weight", f"diffusion_model.{name}.lora_A.weight"


@functools.cache
def factors():
    """Of each key, the two factors of the change that the LoRA makes."""
    generator = torch.Generator().manual_seed(4)

    def draw(*shape):
        return 0.3 * torch.randn(shape, generator=generator)

    shapes = {key: tiny.weights()[key].shape for key in KEYS}
    return {key: (draw(shape[0], 2), draw(2, *shape[1:])) for key, shape in shapes.items()}


@pytest.fixture
def lora(host):
    """lora(names) writes the LoRA under such names: the file's own, for LoRA loaders."""

    def write(names):
        tensors = {}
        for key, (up, down) in factors().items():
            up_key, down_key = names(key.removesuffix(".weight"))
            # Of a head gate, a vector, the second factor is a column.
            tensors[up_key], tensors[down_key] = up, down.view(2, -1)
        save_file(tensors, host.models / "loras" / f"{names.__name__}.safetensors")
        return f"{names.__name__}.safetensors"

    return write


@pytest.fixture
def changed(host, model):
    """changed(strength): the model with the LoRA's changes added to its file by hand."""

    def write(strength):
        weights = dict(tiny.weights())
        for key, (up, down) in factors().items():
            change = (up @ down.view(2, -1)).view(weights[key].shape)
            weights[key] = weights[key] + strength * change
        name = f"changed-{strength}.safetensors"
        save_file(weights, host.models / "diffusion_models" / name)
        return load(name)

    return write


@pytest.mark.parametrize("names", [kohya, as_in_the_model])
def test_lora_adds_its_change_to_every_weight(model, lora, changed, names):
    patched = node("LoraLoaderModelOnly", model=model, lora_name=lora(names), strength_model=0.5)
    assert_same_picture(sample(patched), sample(changed(0.5)))
    assert differs(sample(patched), sample(model))


def test_lora_hook_patches_the_prompt_it_hangs_on(model, lora, changed):
    name = lora(kohya)
    hooks = node("CreateHookLora", lora_name=name, strength_model=1.0, strength_clip=0.0)
    hooked = node(
        "ConditioningSetProperties", cond_NEW=POSITIVE, strength=1.0, set_cond_area="default",
        hooks=hooks,
    )  # fmt: skip
    expected = guided(guess(changed(1.0)), guess(model, NEGATIVE))
    assert_same_picture(guess(model, hooked, cfg=GUIDANCE), expected)
    assert_close(guess(model), guess(load()), rtol=0, atol=0)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 0.5])
def test_merged_model_is_the_mean_of_the_weights(host, model, changed, ratio):
    merged = node("ModelMergeSimple", model1=model, model2=changed(1.0), ratio=ratio)
    assert_same_picture(sample(merged), sample(changed(1.0 - ratio)))


def test_saved_checkpoint_is_loaded_again_to_the_bit(host, model, clip, lora, changed):
    patched = node("LoraLoaderModelOnly", model=model, lora_name=lora(kohya), strength_model=1.0)
    vae = node("VAELoader", vae_name=DEMO_VAE.name)
    node("CheckpointSave", model=patched, clip=clip, vae=vae, filename_prefix="whole")
    (saved,) = host.output.glob("whole*.safetensors")
    weights = load_file(saved)
    for kind in ("diffusion_models", "text_encoders"):
        save_file(weights, host.models / kind / "whole.safetensors", tiny.GEMMA_METADATA)
    saved.unlink()

    again = load("whole.safetensors")
    assert_close(sample(again), sample(patched), rtol=0, atol=0)
    found = node(
        "LuminaNextTextEncoderLoader", text_encoder_name="whole.safetensors", device="default"
    )
    assert_close(encode(found, "a red cat"), encode(clip, "a red cat"), rtol=0, atol=0)


def test_saved_model_is_loaded_again_to_the_bit(host, model):
    node("ModelSave", model=model, filename_prefix="alone")
    (saved,) = host.output.glob("alone*.safetensors")
    saved.rename(host.models / "diffusion_models" / "alone.safetensors")
    again = load("alone.safetensors")
    assert_close(again.model.state_dict(), model.model.state_dict(), rtol=0, atol=0)


def test_unloaded_model_leaves_nothing_behind_and_comes_back(model):
    import comfy.model_management as management

    before = sample(model)
    assert management.loaded_models()
    management.unload_all_models()
    assert not management.loaded_models()
    assert_close(sample(model), before, rtol=0, atol=0)
    management.unload_all_models()


def test_dropped_model_is_freed(model):
    import comfy.model_management as management

    dropped = load()
    sample(dropped)
    network = weakref.ref(dropped.model.diffusion_model)
    management.unload_all_models()
    del dropped
    gc.collect()
    assert network() is None


# --- VAE


@pytest.fixture(scope="module")
def plain_vae():
    """The demo's autoencoder on torch's own layers."""
    return autoencoder.load(DEMO_VAE)


@pytest.fixture
def vae(host):
    return node("VAELoader", vae_name=DEMO_VAE.name)


def image(height=64, width=96):
    """A smooth IMAGE: a few random colors, enlarged."""
    colors = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(6))
    large = torch.nn.functional.interpolate(colors, (height, width), mode="bilinear")
    return large.movedim(1, -1)


def test_vae_encodes_and_decodes_as_plain_torch(vae, plain_vae):
    latent = node("VAEEncode", pixels=image(), vae=vae)
    expected = plain_vae.encode(image().movedim(-1, 1)) / tiny.SDXL_SCALE
    assert_same_picture(latent["samples"], expected)

    decoded = node("VAEDecode", samples=latent, vae=vae)
    expected = plain_vae.decode(latent["samples"] * tiny.SDXL_SCALE).movedim(1, -1)
    assert_close(decoded, expected, rtol=0, atol=1e-4)


def test_tiled_decoding_is_decoding_without_seams(vae):
    latent = node("VAEEncode", pixels=image(128, 192), vae=vae)
    whole = node("VAEDecode", samples=latent, vae=vae)
    tiled = node(
        "VAEDecodeTiled", samples=latent, vae=vae, tile_size=128, overlap=64, temporal_size=64,
        temporal_overlap=8,
    )  # fmt: skip
    assert tiled.shape == whole.shape == (1, 128, 192, 3)
    assert (tiled - whole).abs().mean() < 0.02
