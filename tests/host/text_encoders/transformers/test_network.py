"""Any model of transformers as CLIP: its hidden states, on weights that the host moves.

The oracle is the model itself, of the installed version, tiny and random. test_oldest_transformers
runs this file once more under the oldest version that the host allows.
"""

import copy
import functools
import inspect
import json
import logging
import tempfile
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel

from lumina_next.tests.support import tiny

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

TOKENS = torch.randint(3, 61, (2, 9), generator=torch.Generator().manual_seed(7))
ALL = torch.ones(2, 9, dtype=torch.long)
RIGHT_PADDED = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])


def randomize(model):
    for parameter in model.parameters():
        fan_in = parameter.shape[1] if parameter.ndim == 2 else 4
        torch.nn.init.normal_(parameter, std=fan_in**-0.5)
    return model.eval().requires_grad_(False)


@functools.cache
def oracle(kind):
    """The whole model, random, with whatever attention transformers chooses for it."""
    torch.manual_seed(0)
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


def native(kind, weights, source="encoder.safetensors"):
    from lumina_next.host.text_encoders.transformers import build, config

    config_json = FAMILIES[kind] if isinstance(kind, str) else kind
    return build.build(config.read_config(config_json)).to_native(weights, source=source)


def host_model(kind, weights, dtype=torch.float32):
    """A HostTransformers with these weights of a file."""
    import comfy.ops

    from lumina_next.host.text_encoders.transformers.network import HostTransformers

    config_json = FAMILIES[kind] if isinstance(kind, str) else kind
    model = HostTransformers(config_json, dtype, "cpu", comfy.ops.manual_cast)
    missing, unexpected = model.model.load_state_dict(native(kind, weights))
    assert not missing and not unexpected
    return model.eval().requires_grad_(False)


def host_state(model, mask=ALL, number=-2, tokens=TOKENS):
    embeds = model.get_input_embeddings()(tokens, out_dtype=torch.float32)
    assert embeds.dtype == torch.float32
    out, same = model(None, mask, embeds=embeds, intermediate_output=number)
    assert same is out and out.dtype == torch.float32
    return out


@pytest.mark.parametrize("mask", [ALL, RIGHT_PADDED], ids=["all", "padded"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_hidden_state_is_that_of_transformers(kind, mask):
    theirs, ours = oracle(kind), host_model(kind, oracle(kind).state_dict())
    expected, real = states(theirs, mask), mask.bool()
    assert len(expected) == ours.num_layers == 4
    for number in range(-4, 4):
        found = host_state(ours, mask, number)
        assert_close(found[real], expected[number][real], msg=lambda m, n=number: f"{n}: {m}")


def test_single_token_is_scaled_wherever_padding_is():
    model = host_model(
        FAMILIES["gemma3_text"] | {"pad_token_id": 60}, oracle("gemma3_text").state_dict()
    )
    one = TOKENS[:1, :1]
    expected = states(oracle("gemma3_text"), None, one)[0]
    assert_close(host_state(model, None, 0, one), expected)


def test_several_states_are_stacked():
    model, expected = (
        host_model("qwen2", oracle("qwen2").state_dict()),
        states(oracle("qwen2"), ALL),
    )
    assert_close(host_state(model, number=[0, -2]), torch.stack([expected[0], expected[-2]], 1))
    assert_close(host_state(model, number="all"), torch.stack(expected, 1))


@pytest.mark.parametrize("kind", FAMILIES)
def test_bfloat16_error_is_no_larger_than_transformers(kind):
    # Many tokens: on few, which of two equally good roundings wins is chance.
    tokens = torch.randint(3, 61, (8, 32), generator=torch.Generator().manual_seed(1))
    mask, exact = torch.ones_like(tokens), oracle(kind)
    theirs = copy.deepcopy(exact)
    for parameter in theirs.parameters():
        parameter.data = parameter.data.bfloat16()
    ours = host_model(kind, theirs.state_dict(), torch.bfloat16)
    expected = states(exact, mask, tokens)[-2]
    error = (host_state(ours, mask, tokens=tokens) - expected).abs().mean()
    theirs_error = (states(theirs, mask, tokens)[-2].float() - expected).abs().mean()
    assert 0 < error <= theirs_error


@pytest.mark.parametrize("kind", FAMILIES)
def test_fp8_weights_compute_in_full_precision(kind):
    dtype, exact, weights = torch.float8_e4m3fn, copy.deepcopy(oracle(kind)), {}
    for key, tensor in exact.state_dict().items():
        # As in most such files the vectors, of norms, are not rounded.
        weights[key] = tensor.to(dtype) if tensor.ndim > 1 else tensor.clone()
        tensor.copy_(weights[key].float())
    found = host_state(host_model(kind, weights, dtype), RIGHT_PADDED)
    real, expected = RIGHT_PADDED.bool(), states(exact, RIGHT_PADDED)[-2]
    assert_close(found[real], expected[real])


def test_fp8_norms_are_cast():
    dtype = torch.float8_e4m3fn
    weights = {key: tensor.to(dtype) for key, tensor in oracle("gemma2").state_dict().items()}
    found = host_state(host_model("gemma2", weights, dtype))
    assert_close(found, states(rounded(oracle("gemma2"), dtype), ALL)[-2])


def test_half_weights_do_not_overflow():
    # T5 would round its activations to the dtype of its weights, beyond float16's largest number.
    model = rounded(oracle("mt5"), torch.float16)
    for name, weight in model.encoder.named_parameters():
        if ".wi_" in name:
            weight.data *= 1024
    weights = {key: tensor.half() for key, tensor in model.state_dict().items()}
    expected = states(model, ALL)[-1]
    assert_close(host_state(host_model("mt5", weights, torch.float16), number=-1), expected)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_weight_is_where_the_host_finds_it(kind):
    model = host_model(kind, oracle(kind).state_dict())
    for name, module in model.named_modules():
        if list(module.parameters(recurse=False)):
            assert hasattr(module, "comfy_cast_weights"), name
            assert not list(module.children()), name
    found = {f"model.{name}" for name in native(kind, oracle(kind).state_dict())}
    assert model.state_dict().keys() == found


def test_large_model_is_built_without_memory():
    from lumina_next.host.text_encoders.transformers import build, config

    large = {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28}
    large |= {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152_064}
    parsed = config.read_config({"model_type": "qwen2", **large})
    text = build.build(parsed)
    assert (text.vocabulary, text.width) == (152_064, 3584)
    sizes = {weight.is_meta: 0 for weight in text.network.parameters()}
    for weight in text.network.parameters():
        sizes[weight.is_meta] += weight.numel()
    assert sizes[True] > 7e9 and sizes[False] < 1e6
    assert not any(table.is_meta for table in text.network.buffers())


@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text", "mt5"])
def test_weights_loaded_lazily_are_the_same(kind, monkeypatch):
    """What the host does on a card whose memory it manages by itself."""
    import comfy.memory_management
    import comfy.ops

    from lumina_next.host.text_encoders.transformers.network import HostTransformers

    exact = rounded(oracle(kind), torch.bfloat16)
    weights = native(kind, copy.deepcopy(exact).bfloat16().state_dict())
    with monkeypatch.context() as patch:
        patch.setattr(comfy.memory_management, "aimdo_enabled", True)
        model = HostTransformers(FAMILIES[kind], torch.bfloat16, "cpu", comfy.ops.manual_cast)
        model.model.load_state_dict(weights, assign=True)
    stored = model.state_dict()
    assert all(stored[f"model.{key}"].data_ptr() == weights[key].data_ptr() for key in weights)
    # The dtypes that the host casts to on the card.
    for layer in model.modules():
        assert getattr(layer, "bias_comfy_model_dtype", torch.float32) == torch.float32
    assert_close(host_state(model), states(exact, ALL)[-2])


def test_copy_has_weights_of_its_own():
    model = host_model("gemma3_text", oracle("gemma3_text").state_dict())
    twin, before = copy.deepcopy(model), host_state(model)
    assert_close(host_state(twin), before, rtol=0, atol=0)
    for parameter in twin.parameters():
        parameter.zero_()
    assert host_state(twin).abs().max() == 0
    assert_close(host_state(model), before, rtol=0, atol=0)


def test_tables_follow_the_activations():
    model = host_model("llama", oracle("llama").state_dict())
    (network,) = model._network
    embeds = torch.zeros(1, 3, 32, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        model(None, None, embeds=embeds)  # the weights stayed where they are
    assert all(table.is_meta for table in network.buffers())


# --- names in files

VISION = {"vision_tower.encoder.layers.0.self_attn.q_proj.weight": torch.zeros(3, 3)}


@pytest.mark.parametrize(
    "prefix, beside",
    [
        ("", {"lm_head.weight": torch.zeros(61, 32)}),
        ("model.", {"lm_head.weight": torch.zeros(61, 32)}),
        ("language_model.model.", VISION | {"language_model.lm_head.weight": torch.zeros(61, 32)}),
        ("model.language_model.", VISION | {"model.projector.weight": torch.zeros(3, 3)}),
        ("", {"model.rotary_emb.inv_freq": torch.zeros(4)}),
        ("", {"tokenizer_json": torch.zeros(9, dtype=torch.uint8)}),
    ],
)
def test_text_model_is_found_within_a_larger_one(prefix, beside):
    weights = oracle("qwen2").state_dict()
    found = native("qwen2", {prefix + key: tensor for key, tensor in weights.items()} | beside)
    assert found.keys() == weights.keys()
    assert all(found[key] is weights[key] for key in found)


def test_picture_model_reads_text_as_the_whole_of_it_does():
    whole = {"text_config": {"model_type": "gemma3_text", **GEMMA_3}, "vision_config": PICTURES}
    config_json = {"model_type": "gemma3", "mm_tokens_per_image": 1, **whole}
    torch.manual_seed(1)
    theirs = transformers.AutoModelForImageTextToText.from_config(
        AutoConfig.for_model(**config_json)
    )
    randomize(theirs)
    ours = host_model(config_json, theirs.state_dict())
    expected = theirs(TOKENS, attention_mask=ALL, output_hidden_states=True).hidden_states
    assert_close(host_state(ours), expected[-2])


@pytest.mark.parametrize(
    "left_out",
    [
        (),
        ("encoder.embed_tokens.", "decoder.embed_tokens."),  # as transformers saves it
        ("shared.", "decoder."),
        ("decoder.",),
    ],
)
def test_encoder_finds_its_embeddings_under_any_of_their_names(left_out):
    weights = oracle("mt5").state_dict() | {"lm_head.weight": torch.zeros(61, 32)}
    weights = {key: tensor for key, tensor in weights.items() if not key.startswith(left_out)}
    found = native("mt5", weights)
    assert found.keys() == reader(oracle("mt5")).state_dict().keys()
    assert torch.equal(found["embed_tokens.weight"], oracle("mt5").shared.weight)


def test_pooler_and_stored_positions_are_left_out():
    weights = oracle("bert").state_dict()
    bare = {key: tensor for key, tensor in weights.items() if not key.startswith("pooler.")}
    assert len(bare) < len(weights)
    weights["embeddings.position_ids"] = torch.arange(512)[None]  # as old files have
    assert native("bert", weights).keys() == native("bert", bare).keys() == bare.keys()


def test_names_as_saved_by_the_host_are_found():
    saved = host_model("mt5", oracle("mt5").state_dict()).state_dict()
    assert native("mt5", saved).keys() == reader(oracle("mt5")).state_dict().keys()


def test_header_alone_is_enough_for_the_names():
    weights = oracle("qwen2").state_dict()
    header = {key: torch.empty(tensor.shape, device="meta") for key, tensor in weights.items()}
    header["layers.0.mlp.up_proj.scale_weight"] = torch.empty((), device="meta")
    assert native("qwen2", header).keys() == header.keys()


def changed(**tensors):
    weights = dict(oracle("qwen2").state_dict())
    for key, tensor in tensors.items():
        weights[key] = tensor
    return {f"model.{key}": tensor for key, tensor in weights.items() if tensor is not None}


@pytest.mark.parametrize(
    "weights, message",
    [
        (
            {"layers.1.mlp.up_proj.weight": None},
            'is missing .*"model.layers.1.mlp.up_proj.w',
        ),
        ({"embed_tokens.weight": None}, 'incomplete: .*"model.embed_tokens.weight"'),
        ({"layers.3.mlp.up_proj.weight": torch.zeros(48, 32)}, '"model.layers.3.mlp.up_proj.weig'),
        (
            {"layers.0.self_attn.q_norm.weight": torch.zeros(8)},
            "q_norm.*no part of the .qwen2. model",
        ),
        ({"layers.0.mlp.up_proj.weight_scale": torch.ones(())}, "weight_scale.*ComfyUI's formats"),
        ({"norm.comfy_quant": torch.zeros(2, dtype=torch.uint8)}, "norm.comfy_quant.*formats"),
        ({"norm.weight": torch.zeros(31)}, 'norm.weight" is 31 where its config.json asks for 32'),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, message):
    with pytest.raises(ValueError, match=f"encoder.safetensors.*{message}"):
        native("qwen2", changed(**weights))


def test_file_of_another_model_is_refused():
    with pytest.raises(ValueError, match='not the "mt5" model.*such as "embed_tokens.weight"'):
        native("mt5", {"x_embedder.weight": torch.zeros(2, 2)})


# --- config.json

REMOTE = {"auto_map": {"AutoModel": "modeling.Model"}}


@pytest.mark.parametrize(
    "config_json, message",
    [
        ({}, 'has no "model_type"'),
        ({"model_type": "internlm2", **REMOTE}, "Python code from its own folder.*never run"),
        (
            {"model_type": "of_tomorrow"},
            f"transformers {transformers.__version__} does not have.*pip install -U transformers",
        ),
        ({"model_type": "vit"}, '"vit" model, which does not read text'),
        ({"model_type": "mamba", "num_hidden_layers": 1}, "A_log. outside of its layers"),
        ({"model_type": "clip", "text_config": {"num_hidden_layers": 1}}, "needs the tokens"),
        ({"model_type": "qwen2", "hidden_size": "wide"}, 'the "qwen2" model|a "qwen2" model'),
        (FAMILIES["qwen2"] | {"quantization_config": {"quant_method": "gptq"}}, 'by "gptq"'),
    ],
)
def test_config_that_cannot_be_used_says_why(config_json, message):
    from lumina_next.host.text_encoders.transformers import build, config

    with pytest.raises(ValueError, match=message) as refusal:
        build.build(config.read_config(config_json, source="a/config.json"), source="a/config.json")
    assert "a/config.json" in str(refusal.value) and len(str(refusal.value)) < 500


@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text", "mt5"])
def test_code_and_dtype_of_a_config_are_left_alone(kind):
    config_json = FAMILIES[kind] | REMOTE | {"torch_dtype": "bfloat16", "dtype": "bfloat16"}
    model = host_model(config_json, oracle(kind).state_dict())
    assert_close(host_state(model), states(oracle(kind), ALL)[-2])


def test_config_of_a_newer_version_is_read_right_or_refused():
    scaling = LLAMA_3_SCALING | {"rope_theta": 5e5}
    config_json = {"model_type": "llama", **SIZES, "rope_parameters": scaling}
    if "rope_parameters" in inspect.signature(transformers.LlamaConfig).parameters:
        model = host_model(config_json, oracle("llama").state_dict())
        assert_close(host_state(model), states(oracle("llama"), ALL)[-2])
    else:
        with pytest.raises(ValueError, match='"rope_parameters".*pip install -U transformers'):
            host_model(config_json, oracle("llama").state_dict())


# --- as CLIP

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


def rules(kind, template, **changes):
    from lumina_next.host.text_encoders.transformers import config

    parsed = config.read_config(FAMILIES[kind] | changes)
    return config.prompt_format(parsed, template and whole(template))


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


def encode(clip, text):
    import nodes

    ((features, rest),) = nodes.CLIPTextEncode().encode(clip, text)[0]
    return features, rest


def expected_state(kind, text, number, model=None):
    ids = torch.tensor([whole(TEMPLATES[kind])(text)])
    return states(model or oracle(kind), torch.ones_like(ids), ids)[number]


@pytest.mark.parametrize(
    "kind, special",
    [
        ("qwen2", {"pad": 0}),
        ("gemma3_text", {"start": 2, "pad": 0}),
        ("mt5", {"end": 1, "pad": 0}),
        ("bert", {"start": 2, "end": 1, "pad": 0}),
    ],
)
def test_tokens_around_a_prompt_are_the_tokenizers_own(kind, special):
    found = rules(kind, TEMPLATES[kind])
    assert found.special_tokens == special and found.end == 1
    assert found.hidden_state == (-1 if kind in ENCODERS else -2)


def test_second_token_before_a_prompt_is_not_its_end():
    assert rules("qwen2", "<s> <unk> $A").special_tokens == {"start": 2, "pad": 0}


@pytest.mark.parametrize(
    "kind, special",
    [
        ("qwen2", {"start": 2, "pad": 0}),
        ("mt5", {"end": 1, "pad": 0}),
        ("bert", {"end": 1, "pad": 0}),
    ],
)
def test_tokenizer_that_does_not_say_gets_what_is_usual(kind, special):
    assert rules(kind, None).special_tokens == special


@pytest.mark.parametrize(
    "changes, template, pad",
    [
        ({"pad_token_id": None}, "$A", 2),  # as Qwen
        ({"pad_token_id": None}, "<s> $A", 1),
        ({"pad_token_id": None, "eos_token_id": [7, 8]}, "<s> $A", 7),  # as LLaMA-3
        ({"pad_token_id": None, "bos_token_id": 2, "eos_token_id": 2}, "<s> $A", 60),
        ({"pad_token_id": 2}, "<s> $A", 1),
        ({"pad_token_id": None, "bos_token_id": 5000, "eos_token_id": 6}, "$A", 6),
        ({"pad_token_id": None, "eos_token_id": [5000, 7]}, "<s> $A", 7),
    ],
)
def test_padding_is_no_token_of_a_prompt(changes, template, pad):
    assert rules("qwen2", template, **changes).pad == pad


@pytest.mark.parametrize(
    "kind, text",
    [(kind, text) for kind in TEMPLATES for text in ("a red cat and a dog", "sit")]
    + [(kind, "") for kind in TEMPLATES if kind != "qwen2"],  # which makes no token of it
)
def test_prompt_features_are_the_state_that_is_right_for_the_model(kind, text):
    features, rest = encode(load_clip(kind), text)
    assert_close(features, expected_state(kind, text, -1 if kind in ENCODERS else -2))
    assert rest["attention_mask"].tolist() == [[1] * features.shape[1]]
    assert rest["pooled_output"] is None


def test_prompt_of_padding_alone_is_hidden_and_finite():
    clip = load_clip("qwen2")
    found = clip.encode_from_tokens(clip.tokenize("", min_length=1), return_dict=True)
    assert found["attention_mask"].tolist() == [[0]]
    assert found["cond"].shape == (1, 1, 32) and found["cond"].isfinite().all()


@pytest.mark.parametrize("layer", [-1, -2, -3, -4])
@pytest.mark.parametrize("kind", ["qwen2", "mt5"])
def test_last_layer_node_counts_as_transformers(kind, layer):
    clip = load_clip(kind).clone()
    clip.clip_layer(layer)
    assert_close(encode(clip, "a red cat")[0], expected_state(kind, "a red cat", layer))


@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text"])
def test_prompt_weight_changes_its_own_tokens_only(kind):
    clip = load_clip(kind)
    (plain, _), (weighted, _) = (encode(clip, f"a red (cat:{w})") for w in ("1.0", "1.5"))
    different = (plain - weighted).abs().amax(-1)[0] > 1e-6
    assert different.tolist() == [False] * (len(different) - 1) + [True]


def with_changes(kind):
    """What a LoRA adds to one projection and to one norm, and the model it amounts to."""
    model, changes = copy.deepcopy(oracle(kind)), {}
    for name in ("layers.1.mlp.up_proj", "layers.2.input_layernorm"):
        weight = model.get_submodule(name).weight
        change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)) / 4
        weight.data += change
        changes[name] = change
    return changes, model


def test_lora_reaches_projections_and_norms():
    import comfy.sd

    changes, model = with_changes("gemma3_text")
    prefix = "text_encoders.transformers_model.transformer.model."
    lora = {f"{prefix}{name}.diff": change for name, change in changes.items()}
    clip = load_clip("gemma3_text")
    _, patched = comfy.sd.load_lora_for_models(None, clip, lora, 0, 1.0)
    expected = expected_state("gemma3_text", "a red cat", -2, model)
    assert_close(encode(patched, "a red cat")[0], expected)


def test_partly_loaded_model_gives_the_same_features():
    import comfy.model_patcher

    changes, expected = with_changes("gemma3_text")
    model, cpu = host_model("gemma3_text", oracle("gemma3_text").state_dict()), torch.device("cpu")
    before = model.state_dict()
    patcher = comfy.model_patcher.ModelPatcher(model, cpu, cpu)
    patches = {f"model.{name}.weight": ("diff", (changes[name],)) for name in changes}
    assert len(patcher.add_patches(patches)) == 2
    patcher.load(cpu, lowvram_model_memory=64)
    assert model.model_lowvram and patcher.lowvram_patch_counter() == 2
    assert_close(host_state(model), states(expected, ALL)[-2])
    assert_close(model.state_dict(), before, rtol=0, atol=0)  # streamed, not written


def test_scaled_fp8_weights_are_loaded_at_their_scale():
    model, weights = copy.deepcopy(oracle("qwen2")), {}
    for key, tensor in model.state_dict().items():
        weights[f"model.{key}"] = tensor
        if "_proj.weight" in key:
            scale = tensor.abs().max() / 448
            packed = (tensor / scale).to(torch.float8_e4m3fn)
            weights[f"model.{key}"] = packed
            weights[f"model.{key}".replace(".weight", ".scale_weight")] = scale
            tensor.copy_(packed.float() * scale)
    weights["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    clip = load_clip("qwen2", weights)
    expected = expected_state("qwen2", "a red cat", -2, model)
    assert_close(encode(clip, "a red cat")[0], expected)


def test_saved_text_encoder_loads_again():
    clip = load_clip("gemma3_text")
    again = load_clip("gemma3_text", clip.state_dict_for_saving())
    assert_close(encode(again, "a dog")[0], encode(clip, "a dog")[0], rtol=0, atol=0)


def test_nothing_is_logged_about_missing_weights(caplog):
    with caplog.at_level(logging.WARNING):
        load_clip("qwen2")
    assert not [record for record in caplog.records if "missing" in record.getMessage()]
