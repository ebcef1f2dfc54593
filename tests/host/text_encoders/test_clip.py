"""Gemma, LLaMA and T5 as CLIP: the features of transformers, through "CLIP Text Encode".

Weights are random and tiny; the tokenizers are SentencePiece models trained in tiny.py.
"""

import time

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.prompts import formats
from lumina_next.tests.support import tiny
from lumina_next.tests.support.clips import (
    FAMILIES,
    PROMPT,
    encode_tokens,
    transformer,
    with_weights,
)
from lumina_next.tests.support.host_nodes import encode, node


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


def test_saved_text_encoder_loads_again_to_the_bit(host, load, encoders, clip, family):
    node("CLIPSave", clip=clip, filename_prefix=f"clip-{family.name}")
    (saved,) = host.output.glob(f"clip-{family.name}*.safetensors")
    saved.rename(encoders / saved.name)
    again = load(saved.name)
    assert torch.equal(encode(again, PROMPT)[0], encode(clip, PROMPT)[0])


def test_saved_checkpoint_holds_the_text_encoder_to_the_bit(host, load, encoders, clip, family):
    tiny.write_models(host)
    model = node(
        "LuminaNextModelLoader",
        model_name="native.safetensors",
        weight_dtype="default",
        latent_format="SDXL",
    )
    vae = node("VAELoader", vae_name="lumina-next-demo.safetensors")
    node("CheckpointSave", model=model, clip=clip, vae=vae, filename_prefix=f"all-{family.name}")
    (saved,) = host.output.glob(f"all-{family.name}*.safetensors")
    saved.rename(encoders / saved.name)
    again = load(saved.name)
    assert torch.equal(encode(again, PROMPT)[0], encode(clip, PROMPT)[0])


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
