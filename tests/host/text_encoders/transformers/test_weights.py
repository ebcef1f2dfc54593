"""Names in files lead to the weights of the text model inside."""

import pytest
import torch
import transformers
from torch.testing import assert_close
from transformers import AutoConfig

from lumina_next.tests.support.any_text_models import (
    GEMMA_3,
    PICTURES,
    host_model,
    host_state,
    native,
    oracle,
    reader,
)
from lumina_next.tests.support.random_weights import randomize
from lumina_next.tests.support.token_rows import ALL, TOKENS

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
