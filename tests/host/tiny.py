"""Tiny random models for the tests of the host layer, and what plain torch makes of them.

The oracle is `lumina.model.NextDiT` on torch's own layers, stepped here by Euler's rule. Everything
is float32, and small enough to be made anew in a fraction of a second.
"""

import functools
import io
import json

import sentencepiece
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina import key_names
from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model import NextDiT

CONFIG = NextDiTConfig(dim=32, layers=3, heads=4, kv_heads=2, caption_dim=24, ffn_dim=88)
SHARDS = ("weights-00001-of-00002.safetensors", "weights-00002-of-00002.safetensors")
STEPS, GUIDANCE, SEED = 3, 4.0, 7
SDXL_SCALE = 0.13025
DIFFUSERS_SIZES = {
    "sample_size": 16,
    "hidden_size": CONFIG.dim,
    "num_layers": CONFIG.layers,
    "num_attention_heads": CONFIG.heads,
    "num_kv_heads": CONFIG.kv_heads,
    "multiple_of": 8,
    "cross_attention_dim": CONFIG.caption_dim,
    "qk_norm": True,
    "norm_eps": CONFIG.norm_eps,
}


@functools.cache
def diffusers_weights():
    """A random model of diffusers, both its queries the same as its conversion leaves them."""
    from diffusers import LuminaNextDiT2DModel  # seconds to import

    torch.manual_seed(0)
    model = LuminaNextDiT2DModel(**DIFFUSERS_SIZES)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.1)
    for layer in model.layers:
        layer.attn2.to_q.load_state_dict(layer.attn1.to_q.state_dict())
        layer.attn2.norm_q.load_state_dict(layer.attn1.norm_q.state_dict())
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


@functools.cache
def weights():
    """The same under the released names."""
    return key_names.to_native(diffusers_weights())


def write_models(host):
    """The model in each format in models/diffusion_models, which it returns."""
    folder = host.models / "diffusion_models"
    if not (folder / "native.safetensors").exists():
        torch.save(weights(), folder / "consolidated.00-of-01.pth")
        save_file(diffusers_weights(), folder / "diffusers.safetensors")
        save_shards(folder / "sharded")
        save_file(weights(), folder / "native.safetensors")
    return folder


def save_shards(folder):
    """The model in two files with their index."""
    folder.mkdir(exist_ok=True)
    keys = list(weights())
    halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    for name, half in zip(SHARDS, halves, strict=True):
        save_file({key: weights()[key] for key in half}, folder / name)
    index = {key: name for name, half in zip(SHARDS, halves, strict=True) for key in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def plain_model(given=None):
    """The model on torch's own layers, with these weights or its own."""
    model = NextDiT(CONFIG)
    model.load_state_dict(key_names.to_module_keys(given or weights()))
    return model.eval()


def conditioning(tokens, seed):
    """A CONDITIONING as CLIPTextEncode returns it, of random features."""
    caption = torch.randn(
        1, tokens, CONFIG.caption_dim, generator=torch.Generator().manual_seed(seed)
    )
    return [[caption, {"attention_mask": torch.ones(1, tokens, dtype=torch.long)}]]


POSITIVE, NEGATIVE = conditioning(11, 1), conditioning(5, 2)


def ksampler(model, height=16, width=12, positive=POSITIVE, negative=NEGATIVE):
    """What KSampler makes of an empty latent: (1, 4, height, width) as LATENT carries it."""
    import nodes

    latent = {"samples": torch.zeros(1, 4, height, width)}
    (out,) = nodes.common_ksampler(
        model, SEED, STEPS, GUIDANCE, "euler", "normal", positive, negative, latent
    )
    return out["samples"]


def euler(velocity, model, height=16, width=12):
    """The same by hand. velocity(x, t, caption): picture - noise; model: whose sigmas to take."""
    import comfy.samplers

    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", STEPS)
    x = torch.randn(1, 4, height, width, generator=torch.manual_seed(SEED))
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        t = torch.full((1,), 1 - float(sigma))
        wanted, unwanted = (velocity(x, t, c[0][0]) for c in (POSITIVE, NEGATIVE))
        guided = unwanted + GUIDANCE * (wanted - unwanted)
        x = x + (sigma - after) * torch.cat([guided[:, :3], wanted[:, 3:]], dim=1)
    return x / SDXL_SCALE


def assert_same_picture(found, expected):
    """Within 1e-4 of the spread: guidance and steps multiply what rounding leaves of one pass."""
    assert found.shape == expected.shape
    assert_close(found / expected.std(), expected / expected.std(), rtol=0, atol=1e-4)


def count_forwards(model):
    """A clone of `model` and the list that each of its forward passes adds a batch size to."""
    import comfy.patcher_extension

    seen = []

    def note(executor, x, *args, **kwargs):
        seen.append(len(x))
        return executor(x, *args, **kwargs)

    model = model.clone()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(kind, "count", note)
    return model, seen


# --- the text encoder

GEMMA_SIZES = {
    "hidden_size": CONFIG.caption_dim,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 8,  # not to be read from shapes, so a file says it
    "vocab_size": 320,
}
GEMMA_METADATA = {"config": json.dumps(GEMMA_SIZES)}
WORDS = "a red cat and a green dog sit on the blue mat under the old tree near some water".split()


@functools.cache
def pieces():
    """A SentencePiece model with Gemma's special tokens, as bytes."""
    trained = io.BytesIO()
    pick = torch.randint(len(WORDS), (200, 8), generator=torch.Generator().manual_seed(0))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(" ".join(WORDS[i] for i in row) for row in pick), model_writer=trained,
        vocab_size=300, hard_vocab_limit=False, model_type="bpe", byte_fallback=True,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        add_dummy_prefix=False, remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    return trained.getvalue()


@functools.cache
def gemma():
    """transformers' GemmaModel with random weights."""
    from transformers import GemmaConfig, GemmaModel

    torch.manual_seed(3)
    model = GemmaModel(GemmaConfig(**GEMMA_SIZES, attn_implementation="eager"))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


def gemma_tensors():
    """Its weights as a single file holds them, the tokenizer inside."""
    tensors = {f"model.{key}": tensor for key, tensor in gemma().state_dict().items()}
    tensors["spiece_model"] = torch.frombuffer(bytearray(pieces()), dtype=torch.uint8)
    return tensors


def write_gemma(host):
    """gemma.safetensors in models/text_encoders, which it returns."""
    folder = host.models / "text_encoders"
    if not (folder / "gemma.safetensors").exists():
        save_file(gemma_tensors(), folder / "gemma.safetensors", GEMMA_METADATA)
    return folder


def graph(model="native.safetensors", text_encoder="gemma.safetensors"):
    """From files to a saved latent of 136 x 120 px, in API format."""

    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    return {
        "model": node(
            "LuminaNextModelLoader",
            model_name=model,
            weight_dtype="default",
            latent_format="SDXL",
        ),
        "text": node(
            "LuminaNextTextEncoderLoader", text_encoder_name=text_encoder, device="default"
        ),
        "prompt": node("CLIPTextEncode", clip=["text", 0], text="a red cat"),
        "negative": node("CLIPTextEncode", clip=["text", 0], text=""),
        "empty": node("EmptyLatentImage", width=136, height=120, batch_size=2),
        "sampler": node(
            "KSampler",
            model=["model", 0],
            positive=["prompt", 0],
            negative=["negative", 0],
            latent_image=["empty", 0],
            seed=SEED,
            steps=2,
            cfg=GUIDANCE,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        "save": node("SaveLatent", samples=["sampler", 0], filename_prefix="graph"),
    }
