"""Gemma, LLaMA and T5 as CLIP: the features of transformers, through "CLIP Text Encode".

Weights are random and tiny; the tokenizers are SentencePiece models trained in tiny.py.
"""

import copy
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.lumina.prompts import formats
from lumina_next.tests.support import tiny

FAMILIES = tiny.TEXT_FAMILIES
PROMPT = "a red cat and the blue mat"


@pytest.fixture
def encoders(host):
    for name in FAMILIES:
        folder = tiny.write_text_encoder(host, name)
    return folder


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


@pytest.fixture
def gemma():
    return FAMILIES["gemma"]


@pytest.fixture
def load(encoders):
    """Loads in float32: the host would halve such weights, which rounds them."""
    from lumina_next.host.checkpoints import folders
    from lumina_next.host.text_encoders import loading

    def load(name):
        path = folders.find(folders.TEXT_ENCODERS, name)
        return loading.load_text_encoder_file(str(path), {"dtype": torch.float32})

    return load


@pytest.fixture
def clip(load, family):
    return load(f"{family.name}.safetensors")


def encode(clip, text):
    import nodes

    ((features, rest),) = nodes.CLIPTextEncode().encode(clip, text)[0]
    return features, rest


def encode_tokens(clip, text, **options):
    """Features and mask of a prompt whose tokens are padded or the like by options."""
    out = clip.encode_from_tokens(clip.tokenize(text, **options), return_dict=True)
    return out["cond"], out["attention_mask"]


def transformer(clip, family):
    return getattr(clip.cond_stage_model, family.host_name).transformer


def with_weights(family, change):
    """A copy of transformers' model, each of whose weights `change(key, tensor)` replaces."""
    model = copy.deepcopy(family.model())
    for key, tensor in model.state_dict().items():
        tensor.copy_(change(key, tensor))
    return model


@pytest.mark.parametrize("text", [PROMPT, "Zürich 猫", "  two  spaces\n", ""])
def test_prompt_features_are_those_of_transformers(clip, family, text):
    features, rest = encode(clip, text)
    assert_close(features, family.features(text))
    assert rest["attention_mask"].tolist() == [[1] * len(family.ids(text))]
    assert rest["pooled_output"] is None


@pytest.mark.parametrize("text", [PROMPT, "猫", ""])
def test_padding_is_masked_and_changes_nothing(clip, family, text):
    ids = family.ids(text)
    features, mask = encode_tokens(clip, text, min_length=40)
    assert mask.tolist() == [[1] * len(ids) + [0] * (40 - len(ids))]
    assert_close(features[:, : len(ids)], encode(clip, text)[0])
    padded = family.states([ids + [0] * (40 - len(ids))], mask)[family.hidden_state]
    assert_close(features[:, : len(ids)], padded[:, : len(ids)])


def test_unknown_token_at_the_end_of_a_llama_prompt_is_no_padding(load):
    """Its number, 0, is that of padding; only a vocabulary without bytes gives it."""
    clip = load("llama.safetensors")
    clip.tokenizer.llama_2.tokenizer.spans = lambda text: iter([(9, 0, 1), (0, 1, 2)])
    features, mask = encode_tokens(clip, "ab")
    assert mask.tolist() == [[1] * 4]
    states = FAMILIES["llama"].states([[1, 9, 0, 2]])
    assert_close(features, states[-1])


@pytest.mark.parametrize("layer", [-1, -2, -3, -4])
def test_last_layer_node_counts_as_transformers(clip, family, layer):
    clip = clip.clone()
    clip.clip_layer(layer)
    assert_close(encode(clip, PROMPT)[0], family.features(PROMPT, layer))


@pytest.mark.parametrize("wanted", [[0, 2, -1], "all"])
def test_several_states_can_be_asked_for(clip, family, wanted):
    network, ids = transformer(clip, family), torch.tensor([family.ids(PROMPT)])
    embeds = network.get_input_embeddings()(ids, out_dtype=torch.float32)
    _, found = network(None, None, embeds=embeds, intermediate_output=wanted)
    states = family.states(ids.tolist())
    expected = [states[number] for number in (range(4) if wanted == "all" else wanted)]
    assert_close(found, torch.stack(expected, dim=1))


# --- files


@pytest.mark.parametrize("shard_size", ["5GB", "20KB"])
def test_folder_of_hugging_face_loads(load, encoders, family, shard_size):
    folder = encoders / f"{family.name}-folder-{shard_size}"
    family.model().save_pretrained(folder, max_shard_size=shard_size)
    assert (folder / "model.safetensors").exists() == (shard_size == "5GB")
    (folder / family.tokenizer_file).write_bytes(tiny.pieces(family.name))
    assert_close(encode(load(folder.name), PROMPT)[0], family.features(PROMPT))


def test_torch_shards_load(load, encoders, family):
    folder = encoders / f"{family.name}-bin"
    folder.mkdir()
    tensors = family.tensors()
    spiece = tensors.pop("spiece_model")
    halves = list(tensors)[::2], list(tensors)[1::2]
    for number, keys in enumerate(halves, start=1):
        name = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({key: tensors[key] for key in keys}, folder / name)
    (folder / "config.json").write_text(family.metadata()["config"])
    (folder / family.tokenizer_file).write_bytes(spiece.numpy().tobytes())
    assert_close(encode(load(folder.name), PROMPT)[0], family.features(PROMPT))


def test_whole_t5_is_read_without_its_decoder(load, encoders):
    from transformers import T5ForConditionalGeneration

    whole = T5ForConditionalGeneration(tiny.t5().config).state_dict()
    encoder = tiny.t5().state_dict()
    tensors = {key: (encoder.get(key, value)).clone() for key, value in whole.items()}
    assert {"decoder.embed_tokens.weight", "encoder.embed_tokens.weight"} <= tensors.keys()
    tensors["spiece_model"] = FAMILIES["t5"].tensors()["spiece_model"]
    save_file(tensors, encoders / "whole-t5.safetensors")
    expected = FAMILIES["t5"].features(PROMPT)
    assert_close(encode(load("whole-t5.safetensors"), PROMPT)[0], expected)
    del tensors["shared.weight"]
    save_file(tensors, encoders / "whole-t5-2.safetensors")
    assert_close(encode(load("whole-t5-2.safetensors"), PROMPT)[0], expected)


def test_first_version_of_t5_has_no_gate(load, encoders):
    from transformers import T5Config, T5EncoderModel

    sizes = tiny.T5_SIZES | {"feed_forward_proj": "relu", "d_kv": 6}
    model = tiny.randomized(T5EncoderModel, T5Config(**sizes))
    folder = encoders / "t5-first-version"
    model.save_pretrained(folder)
    (folder / "spiece.model").write_bytes(tiny.pieces("t5"))
    assert_close(encode(load(folder.name), PROMPT)[0], FAMILIES["t5"].features(PROMPT, model=model))


def test_t5_without_a_tokenizer_gets_the_hosts(load, encoders):
    """As ComfyUI's own T5 files are published; the vocabulary is that of every released size."""
    family = FAMILIES["t5"]
    tensors = family.tensors()
    del tensors["spiece_model"]
    tensors["shared.weight"] = torch.randn(32_128, tiny.CONFIG.caption_dim)
    save_file(tensors, encoders / "t5xxl_fp16.safetensors")
    tokens = load("t5xxl_fp16.safetensors").tokenize("a photo of a cat")["t5"]
    assert tokens == [[(token, 1.0) for token in (3, 9, 1202, 13, 3, 9, 1712, 1)]]


def test_output_head_of_llama_is_kept(load, encoders):
    tensors = FAMILIES["llama"].tensors()
    tensors["lm_head.weight"] = torch.randn(320, tiny.CONFIG.caption_dim)
    save_file(tensors, encoders / "llama-head.safetensors", FAMILIES["llama"].metadata())
    clip = load("llama-head.safetensors")
    head = clip.cond_stage_model.llama_2.transformer.model.lm_head.weight
    assert_close(head, tensors["lm_head.weight"], rtol=0, atol=0, check_dtype=True)
    assert_close(encode(clip, PROMPT)[0], FAMILIES["llama"].features(PROMPT))


def saved_with(encoders, family, change, name):
    """File `name` with each weight replaced by `change`; transformers' model with the same."""
    tensors = family.tensors()
    for key, tensor in family.weights().items():
        tensors[family.prefix + key] = change(key, tensor)
    save_file(tensors, encoders / name, family.metadata())
    return with_weights(family, change)


def test_bfloat16_weights_stay_as_they_are(encoders, family):
    from lumina_next.host.text_encoders import loading

    def change(key, tensor):
        tensor = tensor.clone()
        tensor[..., 0] = 1e-7  # in float16, which the host prefers, this is next to nothing
        return tensor.bfloat16()

    name = f"{family.name}-bfloat16.safetensors"
    model = saved_with(encoders, family, change, name)
    clip, written = loading.load_text_encoder(name), load_file(encoders / name)
    loaded = transformer(clip, family).state_dict()
    expected = {key: written[key] for key in loaded}
    assert_close(loaded, expected, rtol=0, atol=0, check_dtype=False)  # norms are in float32
    assert all(loaded[key].dtype == torch.bfloat16 for key in loaded if loaded[key].ndim > 1)
    assert_close(encode(clip, "a dog")[0], family.features("a dog", model=model))


def test_bfloat16_error_is_no_larger_than_transformers(encoders, family):
    from lumina_next.host.text_encoders import loading

    name = f"{family.name}-half.safetensors"
    exact = saved_with(encoders, family, lambda key, tensor: tensor.bfloat16(), name)
    rounded = copy.deepcopy(exact)
    for parameter in rounded.parameters():  # `model.to` would round rotary frequencies as well
        parameter.data = parameter.data.bfloat16()
    text = " ".join(tiny.WORDS * 5)
    expected = family.features(text, model=exact)
    theirs = (family.features(text, model=rounded) - expected).abs().mean()
    ours = (encode(loading.load_text_encoder(name), text)[0] - expected).abs().mean()
    assert expected.shape[1] > 90
    assert ours <= theirs and theirs > 0


def as_fp8(key, tensor):
    """As the pack's own tool does it: what has one axis, a norm, keeps its numbers."""
    return tensor.to(torch.float8_e4m3fn) if tensor.ndim > 1 else tensor.bfloat16()


def test_fp8_weights_load_and_norms_stay_exact(encoders, family):
    from lumina_next.host.text_encoders import loading

    name = f"{family.name}-fp8.safetensors"
    model = saved_with(encoders, family, as_fp8, name)
    found, _ = encode(loading.load_text_encoder(name), PROMPT)
    assert_close(found, family.features(PROMPT, model=model))


def test_scaled_fp8_weights_are_loaded_at_their_scale(load, encoders, family):
    inside = ("self_attn.", "mlp.", ".SelfAttention.", ".DenseReluDense.")
    model, tensors = copy.deepcopy(family.model()), family.tensors()
    for key, tensor in model.state_dict().items():
        if any(name in key for name in inside) and "bias" not in key:
            scale = tensor.abs().max() / 448
            packed = (tensor / scale).to(torch.float8_e4m3fn)
            tensors[family.prefix + key] = packed
            tensors[family.prefix + key.replace(".weight", ".scale_weight")] = scale
            tensor.copy_(packed.float() * scale)
    tensors["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    name = f"{family.name}-scaled.safetensors"
    save_file(tensors, encoders / name, family.metadata())
    assert sum("scale_weight" in key for key in tensors) == 21
    assert_close(encode(load(name), "a dog")[0], family.features("a dog", model=model))


# --- what the host does with a CLIP


def with_lora(clip, family):
    """`clip` with two of its weights changed, a projection and a norm; transformers' the same."""
    import comfy.sd

    lora, changes = {}, {}
    for key in (
        ("layers.1.mlp.up_proj", "layers.1.input_layernorm")
        if family.prefix
        else (
            "encoder.block.1.layer.1.DenseReluDense.wi_0",
            "encoder.block.1.layer.1.layer_norm",
        )
    ):
        shape = family.weights()[f"{key}.weight"].shape
        changes[f"{key}.weight"] = (
            torch.randn(shape, generator=torch.Generator().manual_seed(4)) / 4
        )
        name = f"text_encoders.{family.host_name}.transformer.{family.prefix}{key}.diff"
        lora[name] = changes[f"{key}.weight"]
    _, patched = comfy.sd.load_lora_for_models(None, clip, lora, 0, 1.0)
    return patched, with_weights(family, lambda key, tensor: tensor + changes.get(key, 0))


def test_lora_reaches_projections_and_norms(clip, family):
    patched, model = with_lora(clip, family)
    expected = family.features(PROMPT, model=model)
    assert_close(encode(patched, PROMPT)[0], expected)
    assert not torch.allclose(encode(clip, PROMPT)[0], expected, atol=0.01)


def test_partly_loaded_encoder_gives_the_same_features(clip, family):
    patched, model = with_lora(clip, family)
    encode(patched, PROMPT)
    patched.patcher.partially_unload(torch.device("cpu"), memory_to_free=1e9)
    # T5's norms, which the host's own network has, it moves without streaming them.
    streamed = 1 if family.name == "t5" else 2
    assert patched.patcher.lowvram_patch_counter() == streamed
    tokens = patched.tokenize(PROMPT)
    found = patched.cond_stage_model.encode_token_weights(tokens)[0]
    patched.patcher.unpatch_model()
    assert_close(found, family.features(PROMPT, model=model))


def test_learned_embedding_takes_its_place_among_the_tokens(host, clip, family):
    folder = host.models / "embeddings"
    folder.mkdir(exist_ok=True)
    vectors = torch.randn(2, tiny.CONFIG.caption_dim)
    save_file({"style": vectors}, folder / "style.safetensors")
    features, rest = encode(clip, "a dog embedding:style")
    before = family.ids("a dog ")[: -len(family.end) or None]
    table = family.model().get_input_embeddings().weight
    embeds = torch.cat([table[list(before)], vectors, table[list(family.end)]])
    assert rest["attention_mask"].shape[1] == len(embeds)
    if family.name == "gemma":
        embeds = embeds * tiny.CONFIG.caption_dim**0.5  # which transformers does to tokens only
    states = family.model()(inputs_embeds=embeds[None], output_hidden_states=True).hidden_states
    assert_close(features, states[family.hidden_state])


def test_prompt_weight_moves_its_tokens_away_from_the_empty_prompt(clip, family):
    text = "a red (cat:1.5) and a dog"
    ids, empty = family.ids("a red cat and a dog"), [*family.begin, *family.end]
    (tokens,) = clip.tokenize(text)[family.host_name]
    assert [token for token, _ in tokens] == ids
    weights = torch.tensor([weight for _, weight in tokens])
    assert {*weights.tolist()} == {1.0, 1.5}
    mask = torch.tensor([[1] * len(empty) + [0] * (len(ids) - len(empty))])
    empty += [0] * (len(ids) - len(empty))
    nothing = family.states([empty], mask)[family.hidden_state]
    features = family.states([ids])[family.hidden_state]
    expected = nothing + weights[:, None] * (features - nothing)
    assert_close(encode(clip, text)[0], expected)


@pytest.mark.parametrize("text", ["a red {} cat", "{}", "{}s", "the{}mat", "猫 {} 猫", "a\n\n{}"])
@pytest.mark.parametrize("word", ["under", "猫", "two words"])
def test_weight_1_is_no_weight_to_the_bit(clip, text, word):
    plain, _ = encode(clip, text.format(word))
    weighted, _ = encode(clip, text.format(f"({word}:1.0)"))
    assert torch.equal(plain, weighted)


def test_generate_text_may_ask_for_tokens(clip, family):
    """The arguments that the host's node passes on."""
    asked = {"image": None, "skip_template": True, "thinking": False, "video": None, "audio": None}
    tokens = clip.tokenize("a red cat", min_length=1, **asked)
    assert tokens[family.host_name]


def node(name, **inputs):
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS[name]
    return getattr(kind(), kind.FUNCTION)(**inputs)


def test_saved_text_encoder_loads_again_to_the_bit(host, load, encoders, clip, family):
    node("CLIPSave", clip=clip, filename_prefix=f"clip-{family.name}")
    (saved,) = host.output.glob(f"clip-{family.name}*.safetensors")
    saved.rename(encoders / saved.name)
    again = load(saved.name)
    assert torch.equal(encode(again, PROMPT)[0], encode(clip, PROMPT)[0])


def test_saved_checkpoint_holds_the_text_encoder_to_the_bit(host, load, encoders, clip, family):
    tiny.write_models(host)
    (model,) = node(
        "LuminaNextModelLoader",
        model_name="native.safetensors",
        weight_dtype="default",
        latent_format="SDXL",
    ).args
    vae = node("VAELoader", vae_name="lumina-next-demo.safetensors")[0]
    node("CheckpointSave", model=model, clip=clip, vae=vae, filename_prefix=f"all-{family.name}")
    (saved,) = host.output.glob(f"all-{family.name}*.safetensors")
    saved.rename(encoders / saved.name)
    again = load(saved.name)
    assert torch.equal(encode(again, PROMPT)[0], encode(clip, PROMPT)[0])


def test_factory_makes_a_fresh_text_encoder(clip):
    factory, arguments = clip.patcher.cached_patcher_init
    fresh = factory(*arguments, disable_dynamic=True)
    assert fresh.model is not clip.patcher.model
    assert_close(fresh.model.state_dict(), clip.patcher.model.state_dict(), rtol=0, atol=0)


# --- tokenizers


def without_tokenizer(family):
    tensors = family.tensors()
    del tensors["spiece_model"]
    return tensors


def test_tokenizer_beside_the_file_is_found(load, encoders, family):
    name = f"{family.name}-bare"
    save_file(without_tokenizer(family), encoders / f"{name}.safetensors", family.metadata())
    file = f"{name}.{family.tokenizer_file}"
    with pytest.raises(ValueError, match=rf"{name}\.safetensors comes without.* call it {file}"):
        load(f"{name}.safetensors")
    # Another model's beside all of them is passed over.
    others = {"gemma": "t5", "llama": "gemma", "t5": "gemma"}
    (encoders / "tokenizer.model").write_bytes(tiny.pieces(others[family.name]))
    try:
        with pytest.raises(
            ValueError, match=rf"tokenizer.model is another model's.* call it {file}"
        ):
            load(f"{name}.safetensors")
        (encoders / file).write_bytes(tiny.pieces(family.name))
        features, _ = encode(load(f"{name}.safetensors"), "a dog")
    finally:
        (encoders / "tokenizer.model").unlink()
    assert_close(features, family.features("a dog"))


def test_tokenizer_inside_must_be_of_the_family(load, encoders, family):
    other = FAMILIES["t5" if family.name != "t5" else "llama"]
    tensors = family.tensors() | {"spiece_model": other.tensors()["spiece_model"]}
    save_file(tensors, encoders / "foreign.safetensors", family.metadata())
    with pytest.raises(ValueError, match='"spiece_model" in foreign.safetensors is another model'):
        load("foreign.safetensors")


def test_tokenizer_of_another_size_is_refused(load, encoders, gemma):
    tensors = gemma.tensors()
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:100].clone()
    save_file(tensors, encoders / "small.safetensors", gemma.metadata())
    with pytest.raises(ValueError, match="knows 3.. tokens, but small.safetensors has .* for 100"):
        load("small.safetensors")


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("tokenizer.model", b"version https://git-lfs.github.com", "tokenizer.model cannot be"),
        ("tokenizer.json", b"{}", "tokenizer.json cannot be read as a tokenizer"),
    ],
)
def test_broken_tokenizer_is_named(load, encoders, gemma, name, data, message):
    folder = encoders / "gemma-broken"
    gemma.model().save_pretrained(folder)
    for other in folder.glob("tokenizer.*"):
        other.unlink()
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load("gemma-broken")


def test_tokenizer_model_of_another_format_gives_way_to_tokenizer_json(load, encoders, gemma):
    """A vocabulary in the format of tiktoken has the same file name."""
    from lumina_next.tests.host.prompts.test_tokenizer import as_json

    folder = encoders / "gemma-two-tokenizers"
    gemma.model().save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    (folder / "tokenizer.json").write_bytes(as_json("gemma"))
    assert_close(encode(load(folder.name), "a dog")[0], gemma.features("a dog"))


def test_misshapen_weight_is_named(load, encoders, gemma):
    tensors = gemma.tensors()
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, encoders / "mixed.safetensors", gemma.metadata())
    with pytest.raises(ValueError, match="mixed.safetensors.*layers.1.mlp.up_proj.*40 x 24"):
        load("mixed.safetensors")


@pytest.mark.parametrize("limit", [formats.MAX_TOKENS])
def test_very_long_prompt_takes_no_time(load, limit):
    clip, begin = load("gemma.safetensors"), time.process_time()
    (tokens,) = clip.tokenize(" ".join(["cat"] * 10_000)).values()
    assert time.process_time() - begin < 5  # usually 0.3; a quadratic way would take minutes
    assert len(tokens[0]) == limit


# --- at the sampler


@pytest.mark.parametrize(
    "found, trained, names",
    [
        (5120, 2048, ["5120 features", "LLaMA-2-13B", "trained with 2048", "Gemma-2B"]),
        (4096, 5120, ["4096 features", "T5-XXL, or LLaMA-2-7B", "with 5120 (LLaMA-2-13B)"]),
        (512, 2048, ["512 features", "T5-Small"]),
        (768, 4096, ["768 features", "T5-Base"]),
        (1024, 4096, ["1024 features", "T5-Large"]),
        (2048, 1024, ["2048 features", "T5-XL", "Gemma-2B"]),
        (24, 32, ["gives 24 features per token; this model was trained with 32."]),
    ],
)
def test_prompt_of_another_width_is_refused_by_both_names(host, found, trained, names):
    from lumina_next.host.model.conditioning import check_caption

    mask = {"attention_mask": torch.ones(1, 3)}
    with pytest.raises(ValueError) as refused:
        check_caption(torch.zeros(1, 3, found), trained, mask)
    for name in names:
        assert name in str(refused.value)
    check_caption(torch.zeros(1, 3, trained), trained, mask)
