"""CLIPs from every form of file, in every type, with every place of a tokenizer."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lumina_next.tests.support import tiny
from lumina_next.tests.support.clips import FAMILIES, PROMPT, transformer, with_weights
from lumina_next.tests.support.host_nodes import encode

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
    from lumina_next.tests.support.vocabularies import as_json

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
