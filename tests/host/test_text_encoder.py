"""Gemma as CLIP: the features of transformers' GemmaModel, through "CLIP Text Encode".

Weights are random and tiny; the tokenizer is a SentencePiece model trained here.
"""

import copy
import logging
import time

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina import prompt
from lumina_next.tests.host import tiny


@pytest.fixture
def encoders(host):
    return tiny.write_gemma(host)


@pytest.fixture
def load(encoders):
    """Loads in float32: the host would halve such weights, which rounds them."""
    from lumina_next.host import loading, model_folders

    def load(name):
        path = model_folders.locate(model_folders.TEXT_ENCODERS, name)
        return loading.load_text_encoder_file(str(path), {"dtype": torch.float32})

    return load


def encode(clip, text):
    import nodes

    ((features, rest),) = nodes.CLIPTextEncode().encode(clip, text)[0]
    return features, rest


def hidden_state(text, number=-2, model=None):
    tokens = sentencepiece.SentencePieceProcessor(model_proto=tiny.pieces())
    ids = torch.tensor([tokens.encode(text, add_bos=True)])
    return (model or tiny.gemma())(ids, output_hidden_states=True).hidden_states[number]


@pytest.mark.parametrize("text", ["a red cat, and a dog", "Zürich 猫", ""])
def test_prompt_features_are_the_last_state_but_one(load, text):
    features, rest = encode(load("gemma.safetensors"), text)
    assert_close(features, hidden_state(text))
    assert rest["attention_mask"].tolist() == [[1] * features.shape[1]]
    assert rest["pooled_output"] is None


def test_folder_of_hugging_face_loads(load, encoders):
    folder = encoders / "gemma-folder"
    tiny.gemma().save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(tiny.pieces())
    features, _ = encode(load("gemma-folder"), "a red cat")
    assert_close(features, hidden_state("a red cat"))


@pytest.mark.parametrize("layer", [-2, -3, -4])
def test_last_layer_node_counts_as_transformers(load, layer):
    clip = load("gemma.safetensors").clone()
    clip.clip_layer(layer)
    assert_close(encode(clip, "a red cat")[0], hidden_state("a red cat", layer))


def test_bfloat16_weights_stay_as_they_are(encoders):
    from lumina_next.host import loading

    model, tensors = copy.deepcopy(tiny.gemma()), tiny.gemma_tensors()
    for key, tensor in model.state_dict().items():
        tensor[..., 0] = 1e-7  # in float16, which the host prefers, this is next to nothing
        tensors[f"model.{key}"] = tensor.bfloat16()
        tensor.copy_(tensor.bfloat16())
    save_file(tensors, encoders / "bfloat16.safetensors", tiny.GEMMA_METADATA)
    clip = loading.load_text_encoder("bfloat16.safetensors")
    loaded = clip.cond_stage_model.gemma_2b.transformer.state_dict()
    assert_close(loaded, {key: tensors[key] for key in loaded}, rtol=0, atol=0)
    assert_close(encode(clip, "a dog")[0], hidden_state("a dog", model=model))


def test_scaled_fp8_weights_are_loaded_at_their_scale(load, encoders):
    model, tensors = copy.deepcopy(tiny.gemma()), tiny.gemma_tensors()
    for key, tensor in model.state_dict().items():
        if "_proj." in key:
            scale = tensor.abs().max() / 448
            packed = (tensor / scale).to(torch.float8_e4m3fn)
            tensors[f"model.{key}"] = packed
            tensors[f"model.{key}".replace(".weight", ".scale_weight")] = scale
            tensor.copy_(packed.float() * scale)
    tensors["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(tensors, encoders / "scaled.safetensors", tiny.GEMMA_METADATA)
    features, _ = encode(load("scaled.safetensors"), "a dog")
    assert_close(features, hidden_state("a dog", model=model))


def test_learned_embedding_takes_its_place_among_the_tokens(host, load):
    folder = host.models / "embeddings"
    folder.mkdir(exist_ok=True)
    save_file({"style": torch.ones(2, tiny.CONFIG.caption_dim)}, folder / "style.safetensors")
    clip = load("gemma.safetensors")
    without, _ = encode(clip, "a dog ")
    features, rest = encode(clip, "a dog embedding:style")
    assert features.shape[1] == rest["attention_mask"].shape[1] == without.shape[1] + 2
    assert_close(features[:, :-2], without)  # later tokens are hidden from earlier ones


@pytest.mark.parametrize("text", ["a red cat", "", "Zürich  on the mat"])
def test_json_tokenizer_gives_the_same_tokens(text):
    from lumina_next.host.tokenizer import JsonTokens, SentencePieceTokens

    assert JsonTokens(as_json(tiny.pieces()))(text) == SentencePieceTokens(tiny.pieces())(text)


def as_json(pieces):
    """The SentencePiece model as tokenizer.json: its pieces, and the pairs they are joined from."""
    from tokenizers import Tokenizer, models, normalizers

    processor = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    known = {processor.id_to_piece(number): number for number in range(len(processor))}
    splits = [(piece[:i], piece[i:]) for piece in known for i in range(1, len(piece))]
    merges = [(a, b) for a, b in splits if a in known and b in known]
    merges.sort(key=lambda pair: known["".join(pair)])
    known["<bos>"] = known.pop("<s>")
    tokenizer = Tokenizer(models.BPE(known, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    return tokenizer.to_str().encode()


def test_long_prompt_is_cut_with_a_warning_and_soon(load, caplog):
    clip, begin = load("gemma.safetensors"), time.process_time()
    with caplog.at_level(logging.WARNING):
        (tokens,) = clip.tokenize(" ".join(["cat"] * 10_000)).values()
    assert time.process_time() - begin < 5  # usually 0.1; a quadratic way would take minutes
    assert len(tokens[0]) == prompt.MAX_TOKENS
    (warning,) = [r.getMessage() for r in caplog.records if "cut off" in r.getMessage()]
    assert "256" in warning
    whole = int(warning.split("has ")[1].split(" ")[0])
    assert whole > 10_000 and f"last {whole - 256} " in warning


def test_cut_prompt_says_so_on_its_node(load, monkeypatch):
    from comfy_execution.utils import CurrentNodeContext
    from server import PromptServer

    class Editor:
        shown = []

        def send_progress_text(self, text, node_id):
            self.shown.append((node_id, text))

    monkeypatch.setattr(PromptServer, "instance", Editor(), raising=False)
    clip = load("gemma.safetensors")
    with CurrentNodeContext(prompt_id="job", node_id="7"):
        clip.tokenize("a red cat")
        assert Editor.shown == []
        clip.tokenize("cat " * 300)
    ((node, text),) = Editor.shown
    assert node == "7" and "were cut off" in text


def test_prompt_weight_changes_its_own_tokens_only(load):
    clip = load("gemma.safetensors")
    plain, _ = encode(clip, "a red(cat:1.0)")
    weighted, _ = encode(clip, "a red(cat:1.5)")
    changed = (plain - weighted).abs().amax(-1)[0] > 1e-6
    assert changed.any() and not changed[:3].any()


def test_saved_text_encoder_loads_again_with_its_tokenizer(load, encoders):
    clip = load("gemma.safetensors")
    state = {f"text_encoders.{k}": v.contiguous() for k, v in clip.state_dict_for_saving().items()}
    save_file(state, encoders / "saved-clip.safetensors", tiny.GEMMA_METADATA)
    again = load("saved-clip.safetensors")
    assert_close(encode(again, "the blue mat")[0], encode(clip, "the blue mat")[0], rtol=0, atol=0)


def test_factory_makes_a_fresh_text_encoder(load):
    clip = load("gemma.safetensors")
    factory, arguments = clip.patcher.cached_patcher_init
    fresh = factory(*arguments, disable_dynamic=True)
    assert fresh.model is not clip.patcher.model
    assert_close(fresh.model.state_dict(), clip.patcher.model.state_dict(), rtol=0, atol=0)


def test_tokenizer_beside_the_file_is_found(load, encoders):
    tensors = tiny.gemma_tensors()
    tensors.pop("spiece_model")
    save_file(tensors, encoders / "bare.safetensors", tiny.GEMMA_METADATA)
    with pytest.raises(
        ValueError, match=r"bare\.safetensors comes without.*bare\.tokenizer\.model"
    ):
        load("bare.safetensors")
    (encoders / "bare.tokenizer.model").write_bytes(tiny.pieces())
    features, _ = encode(load("bare.safetensors"), "a dog")
    assert_close(features, encode(load("gemma.safetensors"), "a dog")[0])


def test_tokenizer_json_in_a_folder_is_found(load, encoders):
    folder = encoders / "gemma-json"
    tiny.gemma().save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(as_json(tiny.pieces()))
    assert_close(encode(load("gemma-json"), "a dog")[0], hidden_state("a dog"))


def test_tokenizer_of_another_model_is_refused(load, encoders):
    tensors = tiny.gemma_tensors()
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:100].clone()
    save_file(tensors, encoders / "small.safetensors", tiny.GEMMA_METADATA)
    with pytest.raises(ValueError, match="knows 3.. tokens, but small.safetensors has .* for 100"):
        load("small.safetensors")


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("tokenizer.model", b"version https://git-lfs.github.com", "tokenizer.model cannot be"),
        ("tokenizer.json", b"{}", "tokenizer.json cannot be read as a tokenizer"),
    ],
)
def test_broken_tokenizer_is_named(load, encoders, name, data, message):
    folder = encoders / "gemma-broken"
    tiny.gemma().save_pretrained(folder)
    for other in folder.glob("tokenizer.*"):
        other.unlink()
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load("gemma-broken")


def test_misshapen_weight_is_named(load, encoders):
    tensors = tiny.gemma_tensors()
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, encoders / "mixed.safetensors", tiny.GEMMA_METADATA)
    with pytest.raises(ValueError, match=r"mixed.safetensors.*layers.1.mlp.up_proj.*\(40, 24\)"):
        load("mixed.safetensors")
