"""Tiny random models for the tests of the host layer, and what plain torch makes of them.

The oracle is `lumina.model.NextDiT` on torch's own layers, stepped here by Euler's rule. Everything
is float32, and small enough to be made anew in a fraction of a second.
"""

import dataclasses
import functools
import io
import json
from collections.abc import Callable

import sentencepiece
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.checkpoints import key_names
from lumina_next.lumina.config import NextDiTConfig
from lumina_next.lumina.model.next_dit import NextDiT
from lumina_next.tests.support.random_weights import randomize

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


def without_one(weights):
    """The model with a layer incomplete, under either of its names."""
    missing = ("layers.1.attention.wq.weight", "layers.1.attn1.to_q.weight")
    twin = "layers.1.attn2.to_q.weight"
    return {key: value for key, value in weights.items() if key not in (*missing, twin)}


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


# --- the text encoders

GEMMA_SIZES = {
    "hidden_size": CONFIG.caption_dim,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 8,  # not to be read from shapes, so a file says it
    "vocab_size": 320,
}
LLAMA_SIZES = GEMMA_SIZES | {"num_key_value_heads": 3, "rope_theta": 2e4, "rms_norm_eps": 1e-4}
T5_SIZES = {
    "d_model": CONFIG.caption_dim,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 3,
    "num_heads": 3,
    "vocab_size": 320,
    "feed_forward_proj": "gated-gelu",
}
GEMMA_METADATA = {"config": json.dumps(GEMMA_SIZES)}
WORDS = "a red cat and a green dog sit on the blue mat under the old tree near some water".split()

# As the released models' vocabularies were made.
SPIECE_SETTINGS = {
    "gemma": {
        "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
        "add_dummy_prefix": False, "remove_extra_whitespaces": False, "split_digits": True,
        "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3,
    },
    "llama": {
        "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
        "add_dummy_prefix": True, "remove_extra_whitespaces": False, "split_digits": True,
        "pad_id": -1, "eos_id": 2, "bos_id": 1, "unk_id": 0,
    },
    "t5": {
        "model_type": "unigram", "normalization_rule_name": "nmt_nfkc",
        "pad_id": 0, "eos_id": 1, "bos_id": -1, "unk_id": 2,
    },
}  # fmt: skip


def train_pieces(family, sentences, size):
    """A SentencePiece model of at most `size` pieces, as bytes."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=trained, vocab_size=size,
        hard_vocab_limit=False, minloglevel=2, **SPIECE_SETTINGS[family],
    )  # fmt: skip
    return trained.getvalue()


@functools.cache
def pieces(family="gemma"):
    """A SentencePiece model with a family's special tokens, as bytes."""
    pick = torch.randint(len(WORDS), (200, 8), generator=torch.Generator().manual_seed(0))
    return train_pieces(family, (" ".join(WORDS[i] for i in row) for row in pick), 300)


def randomized(kind, config):
    """A model of transformers whose every weight matters."""
    generator = torch.manual_seed(3)
    return randomize(kind(config), std=0.2, generator=generator)


@functools.cache
def gemma():
    """transformers' GemmaModel with random weights."""
    from transformers import GemmaConfig, GemmaModel

    return randomized(GemmaModel, GemmaConfig(**GEMMA_SIZES, attn_implementation="eager"))


@functools.cache
def llama():
    """transformers' LlamaModel with random weights."""
    from transformers import LlamaConfig, LlamaModel

    return randomized(LlamaModel, LlamaConfig(**LLAMA_SIZES, attn_implementation="eager"))


@functools.cache
def t5():
    """transformers' T5EncoderModel with random weights."""
    from transformers import T5Config, T5EncoderModel

    return randomized(T5EncoderModel, T5Config(**T5_SIZES))


@dataclasses.dataclass(frozen=True)
class TextFamily:
    """A tiny text encoder as transformers makes one, and how its prompts are made of tokens.

    host_name: of the encoder inside a CLIP. begin, end: what goes around a prompt. hidden_state:
    which one "CLIP Text Encode" gives. prefix: of the weights in a published file.
    """

    name: str
    host_name: str
    model: Callable[[], torch.nn.Module]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    hidden_state: int
    prefix: str
    tokenizer_file: str = "tokenizer.model"

    def tensors(self):
        """Its weights as a single file holds them, the tokenizer inside."""
        tensors = {self.prefix + key: tensor for key, tensor in self.weights().items()}
        tensors["spiece_model"] = torch.frombuffer(bytearray(pieces(self.name)), dtype=torch.uint8)
        return tensors

    def weights(self):
        weights = dict(self.model().state_dict())
        weights.pop("encoder.embed_tokens.weight", None)  # T5's other name of the same
        return weights

    def metadata(self):
        return {"config": self.model().config.to_json_string()}

    def ids(self, text):
        tokens = sentencepiece.SentencePieceProcessor(model_proto=pieces(self.name))
        return [*self.begin, *tokens.encode(text), *self.end]

    def states(self, ids, mask=None, model=None):
        """All hidden states of rows of tokens, from transformers."""
        model = model or self.model()
        ids = torch.tensor(ids)
        return model(ids, attention_mask=mask, output_hidden_states=True).hidden_states

    def features(self, text, number=None, model=None):
        number = self.hidden_state if number is None else number
        return self.states([self.ids(text)], model=model)[number]


TEXT_FAMILIES = {
    "gemma": TextFamily("gemma", "gemma_2b", gemma, (2,), (), -2, "model."),
    "llama": TextFamily("llama", "llama_2", llama, (1,), (2,), -1, "model."),
    "t5": TextFamily("t5", "t5", t5, (), (1,), -1, "", "spiece.model"),
}


def gemma_tensors():
    """Gemma's weights as a single file holds them, the tokenizer inside."""
    return TEXT_FAMILIES["gemma"].tensors()


def write_gemma(host):
    """gemma.safetensors in models/text_encoders, which it returns."""
    return write_text_encoder(host, "gemma")


def write_text_encoder(host, family):
    """gemma.safetensors, llama.safetensors or t5.safetensors in models/text_encoders: that."""
    folder = host.models / "text_encoders"
    known = TEXT_FAMILIES[family]
    if not (folder / f"{family}.safetensors").exists():
        save_file(known.tensors(), folder / f"{family}.safetensors", known.metadata())
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
