""" "Train LoRA" of ComfyUI on the demo model: the loss falls, and the base stays as it was."""

import inspect

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.tests.support.host_nodes import node
from lumina_next.tests.support.native_graphs import DEMO_VAE, load

DEMO = "lumina-next-demo.safetensors"
PROMPT = "a blue star in the center on a black background"
SIGMAS = (0.2, 0.5, 0.8)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def picture(host):
    """A latent of the demo model's size that the prompt does not describe: (1, 4, 16, 16)."""
    stripes = torch.zeros(1, 128, 128, 3)
    stripes[:, :, ::32, 1] = stripes[:, :, 1::32, 1] = 1
    vae = node("VAELoader", vae_name=DEMO_VAE.name)
    with torch.inference_mode():
        return node("VAEEncode", pixels=stripes, vae=vae)


@pytest.fixture(scope="module")
def prompt(host):
    clip = node("LuminaNextTextEncoderLoader", text_encoder_name=DEMO, device="default")
    with torch.inference_mode():
        return node("CLIPTextEncode", clip=clip, text=PROMPT)


def loss(model, picture, prompt):
    """Mean squared error of the velocity at three noise levels, always with the same noise."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model])
    x = model.model.process_latent_in(picture["samples"])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    ((caption, rest),) = prompt
    errors = []
    for sigma in SIGMAS:
        noisy = sigma * noise + (1 - sigma) * x
        denoised = model.model.apply_model(
            noisy, torch.tensor([sigma]), c_crossattn=caption,
            attention_mask=rest["attention_mask"],
        )  # fmt: skip
        errors.append((denoised - x).square().mean() / sigma**2)
    return float(sum(errors))


def train(model, picture, prompt, algorithm, **settings):
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS["TrainLoraNode"]
    inputs = {
        "model": model, "latents": picture, "positive": prompt, "batch_size": 1, "steps": 12,
        "grad_accumulation_steps": 1, "learning_rate": 2e-3, "rank": 4, "optimizer": "AdamW",
        "loss_function": "MSE", "seed": 1, "training_dtype": "fp32", "lora_dtype": "fp32",
        "quantized_backward": False, "algorithm": algorithm, "gradient_checkpointing": False,
        "checkpoint_depth": 1, "offloading": False, "existing_lora": "[None]",
        "bucket_mode": False, "bypass_mode": False, **settings,
    }  # fmt: skip
    known = inspect.signature(kind.execute).parameters
    given = {name: [value] for name, value in inputs.items() if name in known}
    return kind.execute(**given).args


@pytest.mark.parametrize("algorithm", ["LoRA", "LoHa", "LoKr", "OFT"])
def test_trained_lora_lowers_the_loss_and_leaves_the_base(host, picture, prompt, algorithm):
    model = load(DEMO)
    before = loss(model, picture, prompt)
    weights = {key: value.clone() for key, value in model.model.state_dict().items()}
    lora, *_ = train(model, picture, prompt, algorithm)
    assert_close(model.model.state_dict(), weights, rtol=0, atol=0)

    name = f"{algorithm}.safetensors"
    save_file(lora, host.models / "loras" / name)
    patched = node("LuminaNextLoraLoader", model=model, lora_name=name, strength=1.0)
    assert loss(patched, picture, prompt) < 0.9 * before
    assert loss(model, picture, prompt) == pytest.approx(before, rel=1e-6)


# In bypass mode the LoRA computes beside the layers, whose own weights may be quantized.
@pytest.mark.parametrize("bypass_mode", [False, True], ids=["patched", "beside the layers"])
def test_the_nodes_own_settings_train_too(host, picture, prompt, bypass_mode):
    from comfy.model_patcher import ModelPatcher

    if bypass_mode and not hasattr(ModelPatcher, "deepclone_multigpu"):
        pytest.skip("older: trains beside no weights that were loaded in inference mode")
    model = load(DEMO)
    before = loss(model, picture, prompt)
    defaults = {"training_dtype": "bf16", "lora_dtype": "bf16", "gradient_checkpointing": True}
    lora, losses, steps = train(model, picture, prompt, "LoRA", bypass_mode=bypass_mode, **defaults)
    assert steps == len(losses["loss"]) == 12
    save_file(lora, host.models / "loras" / "defaults.safetensors")
    patched = node(
        "LuminaNextLoraLoader", model=model, lora_name="defaults.safetensors", strength=1.0
    )
    assert loss(patched, picture, prompt) < 0.95 * before
