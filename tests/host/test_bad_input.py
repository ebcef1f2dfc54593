"""What a user can do wrong, over HTTP: refused in words that help, and the next job runs.

What a file's header can tell is said at /prompt, with status 400, before anything is loaded; the
rest at the node that finds out.
"""

import pytest
import safetensors
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.tests.support import jobs, tiny
from lumina_next.tools import environment

DEMO_MODELS = environment.ROOT / "demo" / "models"
DEMO = jobs.DEMO_GRAPH["model"]["inputs"]["model_name"]
DEMO_DIT = DEMO_MODELS / "diffusion_models" / DEMO
GEMMA = DEMO_MODELS / "text_encoders" / DEMO


def keys(*names):
    return {name: torch.zeros(2, 2) for name in names}


def whole(path):
    return path.read_bytes


def half_of(path):
    return lambda: path.read_bytes()[: path.stat().st_size // 2]


def without(key):
    return lambda: {name: value for name, value in tiny.weights().items() if name != key}


SDXL = keys("model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.label_emb.0.0")
LUMINA_2 = keys("x_embedder.weight", "context_refiner.0.attention.qkv.weight")
LORA = keys("lora_unet_layers_0_attention_wq.lora_up.weight")
MISSING = "layers.1.attention.wq.weight"
PAGE = b"<!DOCTYPE html><html><body>Accept the terms to download</body></html>"

# File: what is in it, or makes that; what the message must say beside its name: trouble and cure.
BAD_MODELS = {
    "sdxl.safetensors": (SDXL, "Stable Diffusion XL", "Load Checkpoint"),
    "lumina-image-2.safetensors": (LUMINA_2, "Lumina-Image 2.0", "Load Diffusion Model"),
    "style-lora.safetensors": (LORA, "a LoRA", "Load Lumina-Next LoRA"),
    "half.safetensors": (half_of(DEMO_DIT), "cut short", "Download it again"),
    "notes.safetensors": (b"Lumina-Next, from the shared drive", "a text file", "not a model"),
    "page.safetensors": (PAGE, "a web page", "download the file itself"),
    "empty.safetensors": (b"", "0 bytes", "Download it again"),
    "gemma-2b.safetensors": (whole(GEMMA), "a text encoder", "Load Lumina-Next Text Encoder"),
    "partial.safetensors": (without(MISSING), MISSING, "download it again"),
}
GEMMA_2 = keys("model.embed_tokens.weight", "model.layers.0.pre_feedforward_layernorm.weight")
T5 = keys("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight")
LLAMA_3 = keys("model.norm.weight") | {"model.embed_tokens.weight": torch.zeros(128_256, 1)}


def without_tokenizer():
    return {key: value for key, value in tiny.gemma_tensors().items() if key != "spiece_model"}


BAD_TEXT_ENCODERS = {
    "gemma-2-2b.safetensors": (GEMMA_2, "Gemma-2", "google/gemma-2b"),
    "llama-3.safetensors": (LLAMA_3, "LLaMA-3", "google/gemma-2b"),
    "t5.safetensors": (T5, "is incomplete", "download it again"),
    "bare.safetensors": (without_tokenizer, "without a tokenizer", "bare.tokenizer.model"),
    "half.safetensors": (half_of(GEMMA), "cut short", "Download it again"),
    "lumina-next.safetensors": (whole(DEMO_DIT), "a diffusion model", "google/gemma-2b"),
}


def write(folder, name, content):
    content = content() if callable(content) else content
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        save_file(content, folder / name)


def assert_next_job_runs(server):
    jobs.run(server, jobs.good_graph())


def assert_refused(server, loader, input_name, name, *texts):
    """400 whose text at the loader holds them all; nothing was queued, the next job runs."""
    before = server.get("/history").keys()
    objections = jobs.refusal(
        server, jobs.with_inputs(jobs.good_graph(), **{loader: {input_name: name}})
    )
    assert set(objections) == {loader}
    for text in (name, *texts):
        assert text in objections[loader]
    assert server.get("/history").keys() == before
    assert_next_job_runs(server)


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_model_is_refused_before_anything_is_loaded(server, name):
    content, *texts = BAD_MODELS[name]
    write(server.models / "diffusion_models", name, content)
    assert_refused(server, "model", "model_name", name, *texts)


@pytest.mark.parametrize("name", BAD_TEXT_ENCODERS)
def test_bad_text_encoder_is_refused_before_anything_is_loaded(server, name):
    content, *texts = BAD_TEXT_ENCODERS[name]
    write(server.models / "text_encoders", name, content)
    assert_refused(server, "text_encoder", "text_encoder_name", name, *texts)


def test_refusal_tells_a_program_the_input_and_the_sentence(server):
    write(server.models / "diffusion_models", "sdxl.safetensors", SDXL)
    graph = jobs.with_inputs(jobs.good_graph(), model={"model_name": "sdxl.safetensors"})
    status, answer = jobs.post(server, "/prompt", {"prompt": graph})
    (error,) = answer["node_errors"]["model"]["errors"]
    assert status == 400 and error["type"] == "custom_validation_failed"
    assert error["extra_info"] == {"input_name": "model_name"}
    sentence = "sdxl.safetensors is not a Lumina-Next model but Stable Diffusion XL. Load it"
    assert error["details"].startswith(f"model_name - {sentence}")


def test_missing_files_are_refused_with_a_list_of_those_there(server):
    assert_refused(
        server, "model", "model_name", "gone.safetensors", "models/diffusion_models", DEMO
    )
    assert_refused(
        server, "text_encoder", "text_encoder_name", "gone.bin", "models/text_encoders", DEMO
    )


def assert_fails(server, graph, *texts):
    """The job fails with all these texts, and the one queued behind it succeeds."""
    bad, good = jobs.queue(server, graph), jobs.queue(server, jobs.good_graph())
    (details,) = jobs.events(jobs.wait(server, bad), "execution_error")
    for text in texts:
        assert text in f"{details['node_type']}: {details['exception_message']}"
    assert jobs.wait(server, good)["status"]["status_str"] == "success"


def demo_caption_dim():
    with safetensors.safe_open(DEMO_DIT, framework="pt") as opened:
        return opened.get_slice("cap_embedder.0.weight").get_shape()[0]


def test_text_encoder_of_another_width_is_named_at_the_sampler(server):
    tiny.write_gemma(server)
    graph = jobs.with_inputs(
        jobs.good_graph(), text_encoder={"text_encoder_name": "gemma.safetensors"}
    )
    widths = f"gives {tiny.CONFIG.caption_dim} features", f"trained with {demo_caption_dim()}"
    assert_fails(server, graph, "KSampler:", *widths, "Load Lumina-Next Text Encoder")


def with_latent(server, graph, latent):
    """The graph with this latent, read from a file, in place of the empty one."""
    tensors = {"latent_tensor": latent, "latent_format_version_0": torch.tensor([])}
    save_file(tensors, server.base / "input" / "given.latent")
    graph["latent"] = {"class_type": "LoadLatent", "inputs": {"latent": "given.latent"}}
    return graph


def test_latent_with_16_channels_is_refused_in_words(server):
    graph = with_latent(server, jobs.good_graph(), torch.ones(1, 16, 8, 8))
    assert_fails(server, graph, "KSampler:", "(1, 16, 8, 8)", "4 channels", "SDXL VAE")


def test_empty_latent_with_16_channels_is_taken_as_4(server):
    graph = jobs.good_graph()
    graph["latent"]["class_type"] = "EmptySD3LatentImage"
    (picture,) = jobs.saved_files(server, jobs.run(server, graph), "images")
    assert Image.open(picture).size == (64, 64)


def test_vae_of_another_kind_fails_at_the_decoder_only(server):
    from comfy.taesd.taesd import TAESD

    vae = TAESD(latent_channels=16).state_dict()
    save_file(vae, server.models / "vae" / "sixteen.safetensors")
    graph = jobs.with_inputs(jobs.good_graph(), vae={"vae_name": "sixteen.safetensors"})
    assert_fails(server, graph, "VAEDecode:", "channels")


@pytest.mark.parametrize("width, height", [(136, 120), (72, 200), (16, 16)])
def test_size_that_is_no_multiple_of_16_gives_a_picture_of_that_size(server, width, height):
    # A seed of its own: a picture of a single token may well be of a single color.
    fixed = {"latent": {"width": width, "height": height}, "sampler": {"seed": 1}}
    graph = jobs.with_inputs(jobs.good_graph(), **fixed)
    (picture,) = jobs.saved_files(server, jobs.run(server, graph), "images")
    opened = Image.open(picture)
    assert opened.size == (width, height)
    assert any(low < high for low, high in opened.getextrema())


# --- settings at their limits


@pytest.fixture
def draw(server):
    """draw(node=inputs): the tiny model's latent, after one step unless told otherwise."""
    tiny.write_models(server)
    tiny.write_gemma(server)

    def run(**changes):
        one_step = jobs.with_inputs(tiny.graph(), sampler={"steps": 1})
        return jobs.saved_latent(server, jobs.run(server, jobs.with_inputs(one_step, **changes)))

    return run


def test_empty_prompt_is_the_unguided_picture(draw):
    guided, unguided = (draw(prompt={"text": ""}, sampler={"cfg": cfg}) for cfg in (4.0, 1.0))
    tiny.assert_same_picture(guided, unguided)
    assert unguided.std() > 0


def test_prompt_of_ten_thousand_words_is_cut_with_a_warning(server, draw):
    long = draw(prompt={"text": " ".join(["cat"] * 10_000)})
    assert "reads 256" in server.log_tail(100)
    other_end = draw(prompt={"text": " ".join(["cat"] * 9_999 + ["dog"])})
    assert_close(other_end, long, rtol=0, atol=0)


def test_very_long_prompt_takes_seconds(server, draw):
    draw()
    graph = jobs.with_inputs(
        tiny.graph(), prompt={"text": " ".join(["dog"] * 10_000)}, sampler={"steps": 1}
    )
    history = jobs.run(server, graph)
    (begin,), (end,) = (jobs.events(history, f"execution_{m}") for m in ("start", "success"))
    assert end["timestamp"] - begin["timestamp"] < 5_000  # ms


def test_guidance_0_draws_the_negative_prompt(draw):
    prompts = {"prompt": {"text": "a red cat"}, "negative": {"text": "the blue mat"}}
    found = draw(sampler={"cfg": 0.0}, **prompts)
    wanted = draw(sampler={"cfg": 1.0}, prompt={"text": "a red cat"})
    unwanted = draw(sampler={"cfg": 1.0}, prompt={"text": "the blue mat"})
    # The fourth channel is the prompt's own, as in the released code.
    expected = torch.cat([unwanted[:, :3], wanted[:, 3:]], dim=1)
    tiny.assert_same_picture(found, expected)


def test_0_steps_are_refused(server):
    graph = jobs.with_inputs(jobs.good_graph(), sampler={"steps": 0})
    assert "steps" in jobs.refusal(server, graph)["sampler"]
    assert_next_job_runs(server)
