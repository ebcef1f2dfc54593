"""Small text models of many kinds of transformers for the tests, as the oracle and on the host."""

import copy
import functools
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel

from lumina_next.tests.support import tiny
from lumina_next.tests.support.random_weights import randomize
from lumina_next.tests.support.token_rows import ALL, TOKENS

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 61,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
WIDE_HEADS = SIZES | {"head_dim": 16}
# Shorter windows than the prompts here, so that they count.
GEMMA = WIDE_HEADS | {"sliding_window": 4, "query_pre_attn_scalar": 8, "rms_norm_eps": 1e-5}
GEMMA_3 = GEMMA | {
    "sliding_window_pattern": 2,
    "rope_theta": 1e6,
    "rope_local_base_freq": 100.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
LLAMA_3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "vocab_size": 61}
T5 |= {"feed_forward_proj": "gated-gelu", "pad_token_id": 0, "eos_token_id": 1}
PICTURES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
PICTURES |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}

# As in config.json files, which spell rotary settings as transformers did before version 5.
FAMILIES = {
    "qwen2": SIZES,
    "qwen3": WIDE_HEADS,
    "qwen2_5_vl": SIZES
    | {
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "vision_config": {"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 32},
    },
    "gemma": WIDE_HEADS,
    "gemma2": GEMMA | {"attn_logit_softcapping": 2.0},
    "gemma3_text": GEMMA_3,
    "mistral": WIDE_HEADS | {"sliding_window": 4},
    "llama": SIZES | {"rope_theta": 5e5, "rope_scaling": LLAMA_3_SCALING},
    "internlm3": SIZES | {"qkv_bias": True, "bias": True},
    "phi3": SIZES,
    "mt5": T5,
    "umt5": T5,
    "bert": SIZES,
}
FAMILIES = {
    kind: {"model_type": kind, **sizes}
    for kind, sizes in FAMILIES.items()
    if kind in CONFIG_MAPPING  # the oldest version has not all
}
ENCODERS = {"mt5", "umt5", "bert"}


@functools.cache
def oracle(kind):
    """The whole model, random, with whatever attention transformers chooses for it."""
    # Asked nothing, the oldest version forgets to cap Gemma-2's scores.
    options = {"attn_implementation": "eager"} if kind == "gemma2" else {}
    config = AutoConfig.for_model(**FAMILIES[kind])
    return randomize(AutoModel.from_config(config, **options))


def reader(model):
    """Of a model the part that reads text."""
    return model.get_encoder() if model.config.is_encoder_decoder else model


def states(model, mask, tokens=TOKENS):
    return reader(model)(tokens, attention_mask=mask, output_hidden_states=True).hidden_states


def rounded(model, dtype):
    """A copy whose weights went through `dtype`, still in float32."""
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    return model


def text_model(kind):
    from lumina_next.host.text_encoders.transformers import build, config

    config_json = FAMILIES[kind] if isinstance(kind, str) else kind
    return build.build(config.read_config(config_json))


def native(kind, weights, source="encoder.safetensors"):
    return text_model(kind).to_native(weights, source=source)


def host_model(kind, weights, dtype=torch.float32):
    """A HostTransformers with these weights of a file."""
    import comfy.ops

    from lumina_next.host.text_encoders.transformers.network import TEXT_MODEL, HostTransformers

    sizes = {TEXT_MODEL: text_model(kind)}
    model = HostTransformers(sizes, dtype, "cpu", comfy.ops.manual_cast)
    missing, unexpected = model.model.load_state_dict(native(kind, weights))
    assert not missing and not unexpected
    return model.eval().requires_grad_(False)


def host_state(model, mask=ALL, number=-2, tokens=TOKENS):
    embeds = model.get_input_embeddings()(tokens, out_dtype=torch.float32)
    assert embeds.dtype == torch.float32
    out, same = model(None, mask, embeds=embeds, intermediate_output=number)
    assert same is out and out.dtype == torch.float32
    return out


REMOTE = {"auto_map": {"AutoModel": "modeling.Model"}}


SPECIAL = {"<pad>": 0, "</s>": 1, "<s>": 2, "<unk>": 3}
TEMPLATES = {"qwen2": "$A", "gemma3_text": "<s> $A", "mt5": "$A </s>", "bert": "<s> $A </s>"}


@functools.cache
def tokens(template):
    """A tokenizer of whole words, with what the template puts around them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from lumina_next.host.prompts.vocabulary import JsonTokenizer

    words = sorted(set(tiny.WORDS))
    vocabulary = SPECIAL | {word: number for number, word in enumerate(words, start=4)}
    model = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=list(SPECIAL.items())
    )
    return JsonTokenizer(model.to_str().encode())


def whole(template):
    return lambda text: tokens(template).processor.encode(text).ids


def load_clip(kind, weights=None):
    """The CLIP of a file that holds a model's weights, its tokenizer and its config.json."""
    from lumina_next.host.text_encoders import loading

    tensors = tokens(TEMPLATES[kind]).state_dict()
    tensors |= oracle(kind).state_dict() if weights is None else weights
    # Whichever of the names of a shared weight comes first is enough.
    once = {tensor.data_ptr(): key for key, tensor in reversed(tensors.items())}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        content = {key: tensors[key].contiguous() for key in once.values()}
        save_file(content, path, {"config": json.dumps(FAMILIES[kind])})
        return loading.load_text_encoder_file(str(path), {})


def expected_state(kind, text, number, model=None):
    ids = torch.tensor([whole(TEMPLATES[kind])(text)])
    return states(model or oracle(kind), torch.ones_like(ids), ids)[number]
