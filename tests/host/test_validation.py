"""The loaders: from files to a latent, refusals before anything runs, every input explained."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lumina_next.tests.support import tiny


@pytest.fixture
def encoders(host):
    return tiny.write_gemma(host)


@pytest.fixture(params=tiny.TEXT_FAMILIES)
def family(request):
    return tiny.TEXT_FAMILIES[request.param]


def test_nodes_make_a_latent_from_a_prompt(host, folder, encoders):
    before = set(host.output.glob("graph*.latent"))  # of other tests
    host.run(tiny.graph())
    (saved,) = set(host.output.glob("graph*.latent")) - before
    latent = load_file(saved)["latent_tensor"]
    assert latent.shape == (2, 4, 15, 17)
    assert latent.isfinite().all() and latent.std() > 0


@pytest.mark.parametrize(
    "name, message",
    [
        ("absent.safetensors", "not in models/diffusion_models, where there is: .*safetensors"),
        ("../text_encoders/gemma.safetensors", "not in models/diffusion_models"),
        ("cut.safetensors", "cut.safetensors is cut short"),
        ("lumina2.safetensors", "lumina2.safetensors is not .* but Lumina-Image 2.0"),
        ("partial.safetensors", "partial.safetensors is incomplete.*layers.1.attention.wq.weight"),
    ],
)
def test_bad_model_is_refused_before_anything_runs(host, folder, encoders, name, message):
    whole = (folder / "native.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    foreign = {"context_refiner.0.attention.qkv.weight": torch.ones(3)}
    save_file(foreign, folder / "lumina2.safetensors")
    save_file(tiny.without_one(tiny.diffusers_weights()), folder / "partial.safetensors")
    with pytest.raises(ValueError, match=message):
        host.run(tiny.graph(model=name))


@pytest.mark.parametrize(
    "key, found",
    [
        ("model.layers.0.pre_feedforward_layernorm.weight", "Gemma-2"),
        ("model.layers.0.self_attn.q_norm.weight", "Gemma-3"),
        ("model.layers.0.self_attn.q_proj.bias", "Qwen2"),
        ("tok_embeddings.weight", "LLaMA in Meta's own format"),
        ("text_model.encoder.layers.0.mlp.fc1.weight", "CLIP"),
    ],
)
def test_bad_text_encoder_is_refused_before_anything_runs(host, folder, encoders, key, found):
    save_file({key: torch.ones(2)}, encoders / "other.safetensors")
    with pytest.raises(
        ValueError, match=f"other.safetensors is none of the text encoders.*{found}"
    ):
        host.run(tiny.graph(text_encoder="other.safetensors"))


def problem(name):
    """What the loader says of a text encoder before anything runs; None if nothing."""
    from lumina_next.host import validation
    from lumina_next.host.checkpoints import folders

    return validation.explain_unusable(folders.TEXT_ENCODERS, name)


def test_good_text_encoder_is_not_refused(host, family):
    encoders = tiny.write_text_encoder(host, family.name)
    assert problem(f"{family.name}.safetensors") is None
    folder = encoders / f"whole-{family.name}"
    family.model().save_pretrained(folder, max_shard_size="20KB")
    (folder / family.tokenizer_file).write_bytes(tiny.pieces(family.name))
    assert problem(folder.name) is None


def test_packed_text_encoder_is_known_by_its_header(host, encoders, family):
    """Its config is in the metadata, without which a LLaMA this small would pass for a Gemma."""
    from lumina_next.host.text_encoders import loading as text_encoders_loading
    from lumina_next.lumina.checkpoints.convert.pack import pack

    folder = encoders / f"to-pack-{family.name}"
    family.model().save_pretrained(folder)
    (folder / family.tokenizer_file).write_bytes(tiny.pieces(family.name))
    pack(folder, encoders / f"packed-{family.name}.safetensors")
    assert problem(f"packed-{family.name}.safetensors") is None
    clip = text_encoders_loading.load_text_encoder(f"packed-{family.name}.safetensors")
    assert hasattr(clip.cond_stage_model, family.host_name)


def test_folder_without_a_tokenizer_is_refused(host, encoders, family):
    folder = encoders / f"no-tokenizer-{family.name}"
    family.model().save_pretrained(folder)
    found = problem(folder.name)
    assert "comes without a tokenizer" in found and f"into {folder.name}." in found
    assert f"Put {family.tokenizer_file} or tokenizer.json" in found


def test_tokenizer_of_another_model_is_refused(host, encoders, family):
    folder = encoders / f"other-tokenizer-{family.name}"
    family.model().save_pretrained(folder)
    other = "t5" if family.name == "gemma" else "gemma"
    (folder / "tokenizer.model").write_bytes(tiny.pieces(other))
    assert "tokenizer.model is another model's tokenizer" in problem(folder.name)
    (folder / "tokenizer.model").write_bytes(tiny.pieces(family.name))
    assert problem(folder.name) is None  # said again of the file as it is now


def test_tokenizer_with_more_tokens_than_embeddings_is_refused(host, encoders, family):
    size = {"t5": 30}.get(family.name, 270)
    tensors = family.tensors()
    table = "shared.weight" if family.name == "t5" else "model.embed_tokens.weight"
    tensors[table] = tensors[table][:size].clone()
    name = f"too-small-{family.name}.safetensors"
    save_file(tensors, encoders / name, family.metadata())
    assert f"but {name} has embeddings for {size}" in problem(name)


def test_missing_and_cut_shards_are_refused(host, encoders, family):
    folder = encoders / f"shards-{family.name}"
    family.model().save_pretrained(folder, max_shard_size="20KB")
    (folder / family.tokenizer_file).write_bytes(tiny.pieces(family.name))
    shard = sorted(folder.glob("model-*"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    assert f"{shard.name} is cut short" in problem(folder.name)
    shard.unlink()
    assert f"lacks {shard.name}" in problem(folder.name)


def test_misshapen_weight_is_named_before_anything_runs(host, encoders, family):
    key = "layers.1.input_layernorm" if family.prefix else "encoder.block.1.layer.0.layer_norm"
    key = f"{family.prefix}{key}.weight"
    name = f"misshapen-{family.name}.safetensors"
    save_file(family.tensors() | {key: torch.zeros(3)}, encoders / name, family.metadata())
    bare = key.removeprefix(family.prefix)
    assert f'"{bare}" is 3 where the rest of the file asks for 24' in problem(name)


@pytest.mark.parametrize("config", ["{", "[]", ""])
def test_damaged_config_is_named(host, encoders, config):
    folder = encoders / "bad-config"
    tiny.gemma().save_pretrained(folder)
    (folder / "config.json").write_text(config)
    assert problem("bad-config") == "config.json in bad-config is damaged. Download it again."


@pytest.mark.parametrize("charsmap", ["", "AAAAAAAAAAA="])
def test_vocabulary_that_makes_its_library_panic_is_refused(host, encoders, charsmap):
    """tokenizers is written in Rust: what it raises then is no Exception, and ends a thread."""
    tensors = tiny.gemma_tensors()
    pieces = {"<pad>": 0, "<eos>": 1, "<bos>": 2}
    normalizer = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    model = {"type": "WordLevel", "vocab": pieces, "unk_token": "<pad>"}
    text = json.dumps({"version": "1.0", "normalizer": normalizer, "model": model}).encode()
    del tensors["spiece_model"]
    tensors["tokenizer_json"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    save_file(tensors, encoders / "panic.safetensors", tiny.GEMMA_METADATA)
    found = problem("panic.safetensors")
    assert found.startswith('"tokenizer_json" in panic.safetensors cannot be read as a tokenizer: ')


def test_relative_of_llama_needs_its_config(host, encoders):
    tensors = tiny.TEXT_FAMILIES["llama"].tensors()
    tensors["model.embed_tokens.weight"] = torch.zeros(32_000, tiny.CONFIG.caption_dim)
    save_file(tensors, encoders / "small-llama.safetensors")
    found = problem("small-llama.safetensors")
    assert "24 features per token" in found and "config.json included" in found


def test_validation_reads_a_file_once(host, encoders, monkeypatch):
    """A vocabulary takes a second to read, and every job asks."""
    from lumina_next.host.text_encoders import loading as text_encoders_loading

    read = []
    monkeypatch.setattr(text_encoders_loading, "open_tokenizer", lambda *given: read.append(given))
    save_file(tiny.gemma_tensors(), encoders / "asked.safetensors", tiny.GEMMA_METADATA)
    assert problem("asked.safetensors") is None and problem("asked.safetensors") is None
    assert len(read) == 1
    save_file(tiny.gemma_tensors() | {"x": torch.ones(1)}, encoders / "asked.safetensors")
    problem("asked.safetensors")
    assert len(read) == 2


def test_changed_file_is_loaded_again(folder, weights):
    from lumina_next.nodes.loaders import ModelLoader

    save_file(weights, folder / "changing.safetensors")
    before = ModelLoader.fingerprint_inputs(model_name="changing.safetensors")
    assert before == ModelLoader.fingerprint_inputs(model_name="changing.safetensors")
    save_file(weights | {"pad_token": torch.ones(1)}, folder / "changing.safetensors")
    assert before != ModelLoader.fingerprint_inputs(model_name="changing.safetensors")


def test_name_over_a_link_is_checked_when_it_arrives(host):
    from lumina_next.nodes.loaders import ModelLoader

    assert ModelLoader.validate_inputs() is True
    assert ModelLoader.fingerprint_inputs() is None


@pytest.mark.parametrize("number", [0, 1])
def test_every_input_and_output_is_explained(host, number):
    from lumina_next.nodes.loaders import NODES

    schema = NODES[number].GET_SCHEMA()
    assert schema.description and schema.search_aliases
    assert all(item.tooltip for item in [*schema.inputs, *schema.outputs])
