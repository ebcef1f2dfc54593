"""Text by "Generate Text" through our CLIP: the text of transformers' `generate`, and its manners.

Weights are random and tiny; the tokenizers are those of tiny.py, which have fewer pieces than the
models have embeddings.
"""

import copy
import functools
import inspect
import logging

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.prompts.enhancing import few_shot
from lumina_next.lumina.prompts.formats import MAX_TOKENS
from lumina_next.tests.support import tiny

TOKENS = 40
SAMPLED = {
    "sampling_mode": "on",
    "temperature": 1.0,
    "top_k": 64,
    "top_p": 0.95,
    "min_p": 0.0,
    "repetition_penalty": 1.05,
    "presence_penalty": 0.0,
    "seed": 5,
}
FAMILIES = ("gemma", "llama")


@functools.cache
def author(family):
    """transformers' model with an output head, its layers sharpened: others repeat one token."""
    from transformers import AutoModelForCausalLM

    config = tiny.TEXT_FAMILIES[family].model().config
    model = tiny.randomized(AutoModelForCausalLM.from_config, config)
    for name, weight in model.named_parameters():
        if "norm" in name and family == "llama":
            weight += 1
        elif "q_proj" in name or "k_proj" in name:
            weight *= 4
        elif "o_proj" in name:
            weight *= 8
    return model


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def load(host):
    """Loads the author of a family from a file of its weights in `dtype`."""
    from lumina_next.host.text_encoders import loading

    def load(family="gemma", dtype=torch.float32):
        return loading.load_text_encoder(write_author(host, family, dtype))

    return load


def write_author(host, family, dtype=torch.float32):
    """The name of a file in models/text_encoders with the author and its tokenizer."""
    path = host.models / "text_encoders" / f"author-{family}-{str(dtype)[6:]}.safetensors"
    if not path.exists():
        known = tiny.TEXT_FAMILIES[family]
        tensors = {key: tensor.to(dtype) for key, tensor in author(family).state_dict().items()}
        if family == "gemma":
            del tensors["lm_head.weight"]  # the embedding under another name
        tensors["spiece_model"] = known.tensors()["spiece_model"]
        save_file(tensors, path, known.metadata())
    return path.name


def encoder_of(clip):
    return getattr(clip.cond_stage_model, clip.cond_stage_model.clip)


def node_text(clip, prompt, sampling=None, **rest):
    """What the node "Generate Text" gives."""
    from comfy_extras.nodes_textgen import TextGenerate

    if set(rest) - set(inspect.signature(TextGenerate.execute).parameters):
        pytest.skip(f'"Generate Text" of this ComfyUI has no {" and no ".join(rest)}')
    sampling = sampling or {"sampling_mode": "off"}
    return TextGenerate.execute(clip, prompt, TOKENS, sampling, **rest).args[0]


def raw_ids(clip, prompt, **options):
    """The numbers that `clip` continues `prompt` by, with no template around it."""
    return clip.generate(clip.tokenize(prompt, skip_template=True), max_length=TOKENS, **options)


def endless_ids(clip, prompt):
    tokens = clip.tokenize(prompt, skip_template=True) | {"stop_tokens": ()}
    return clip.generate(tokens, do_sample=False, max_length=TOKENS)


def pieces(family):
    return sentencepiece.SentencePieceProcessor(model_proto=tiny.pieces(family))


def their_ids(family, text, model=None):
    """The likeliest continuation by transformers, which stops at nothing."""
    start = torch.tensor([[*tiny.TEXT_FAMILIES[family].begin, *pieces(family).encode(text)]])
    whole = (model or author(family)).generate(
        start, max_new_tokens=TOKENS, do_sample=False, eos_token_id=None
    )
    ids = whole[0, start.shape[1] :].tolist()
    assert len(set(ids)) > 10
    return ids


def as_text(family, ids):
    known = pieces(family)
    return known.decode([number for number in ids if number < len(known)]).strip()


def until_a_stop(ids, stops):
    return next((ids[:i] for i, number in enumerate(ids) if number in stops), ids)


@pytest.mark.parametrize("prompt", ["a red cat", "", "Zürich (猫:1.5) [x]\n\\(y\\)"])
@pytest.mark.parametrize("with_template", [True, False])
def test_node_writes_what_transformers_writes(load, family, prompt, with_template):
    clip = load(family)
    stops = clip.tokenize(prompt, skip_template=not with_template)["stop_tokens"]
    ids = their_ids(family, few_shot(prompt) if with_template else prompt)
    expected = as_text(family, until_a_stop(ids, stops))
    assert expected
    assert node_text(clip, prompt, use_default_template=with_template) == expected


def test_graph_shows_what_the_loaded_text_encoder_writes(host, load):
    loader = {"text_encoder_name": write_author(host, "gemma"), "device": "default"}
    writer = {"clip": ["text", 0], "prompt": "a red cat", "max_length": TOKENS}
    writer["sampling_mode"] = SAMPLED["sampling_mode"]
    writer |= {f"sampling_mode.{k}": v for k, v in SAMPLED.items() if k != "sampling_mode"}
    graph = {
        "text": {"class_type": "LuminaNextTextEncoderLoader", "inputs": loader},
        "write": {"class_type": "TextGenerate", "inputs": writer},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["write", 0]}},
    }
    expected = node_text(load(), "a red cat", SAMPLED)
    assert list(host.run(graph)["show"]["text"]) == [expected]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_kept_in_fewer_bits_are_computed_with_in_full(load, family, dtype):
    rounded = copy.deepcopy(author(family))
    for weight in rounded.parameters():
        weight.copy_(weight.to(dtype))
    assert endless_ids(load(family, dtype), "a dog") == their_ids(family, "a dog", rounded)


def test_encoding_a_prompt_never_meets_the_template(load):
    clip = load()
    before = clip.encode_from_tokens(clip.tokenize("a (red:1.3) cat"))
    assert node_text(clip, "a (red:1.3) cat")
    tokens = clip.tokenize("a (red:1.3) cat")
    assert len(tokens) == 1 and 1.3 in {weight for _, weight in next(iter(tokens.values()))[0]}
    assert_close(clip.encode_from_tokens(tokens), before, rtol=0, atol=0)


def test_prompt_to_be_continued_may_be_long(load, caplog):
    clip, prompt = load(), "a cat on the mat " * 100
    with caplog.at_level(logging.WARNING):
        (ids,) = next(iter(clip.tokenize(prompt, skip_template=True).values()))
    assert len(ids) > 2 * MAX_TOKENS and not caplog.records


def test_text_ends_before_a_stop(load, family):
    clip, ids = load(family), their_ids(family, "a dog")
    assert endless_ids(clip, "a dog") == ids
    tokens = clip.tokenize("a dog", skip_template=True) | {"stop_tokens": {ids[25]}}
    assert clip.generate(tokens, False, TOKENS) == ids[: ids.index(ids[25])]


def test_template_asks_for_one_line_and_a_bare_prompt_for_more(load, family):
    clip, known = load(family), pieces(family)
    end, newline = known.eos_id(), known.piece_to_id("<0x0A>")
    assert known.id_to_piece(newline) == "<0x0A>"
    assert clip.tokenize("a dog", skip_template=False)["stop_tokens"] == {end, newline}
    assert clip.tokenize("a dog", skip_template=True)["stop_tokens"] == {end}


def test_text_is_trimmed_and_unknown_tokens_are_left_out(load, family):
    clip, known = load(family), pieces(family)
    ids = [len(known), *known.encode("  a red cat "), tiny.GEMMA_SIZES["vocab_size"] - 1]
    assert clip.decode(ids) == "a red cat"


def test_same_seed_writes_the_same_whatever_came_before(load):
    clip, state = load(), torch.get_rng_state()
    first = node_text(clip, "a cat", SAMPLED)
    assert node_text(clip, "a cat", SAMPLED | {"seed": 2**64 - 1}) != first
    assert node_text(clip.clone(), "a cat", SAMPLED) == first
    assert node_text(load(), "a cat", SAMPLED) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(raw_ids(clip, "a cat")) for _ in range(3)}) > 1  # without a seed


def test_nothing_is_left_on_the_model(load):
    clip = load()
    modules = list(clip.cond_stage_model.modules())
    before = [set(vars(module)) for module in modules]
    raw_ids(clip, "a cat", seed=1)
    assert [set(vars(module)) for module in modules] == before


@pytest.mark.parametrize("can", [True, False])
def test_card_that_can_computes_in_bfloat16(load, monkeypatch, can):
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "should_use_bf16", lambda device: can)
    clip, seen = load(), set()
    for layer in encoder_of(clip).transformer.model.layers:
        layer.register_forward_hook(lambda _, given, out: seen.update({given[0].dtype, out.dtype}))
    assert raw_ids(clip, "a cat", do_sample=False)
    assert seen == {torch.bfloat16 if can else torch.float32}


def test_progress_runs_from_the_first_token_to_the_last(load):
    import comfy.utils

    steps = []
    comfy.utils.set_progress_bar_global_hook(lambda value, total, *_, **__: steps.append(value))
    try:
        ids = raw_ids(load(), "a cat", do_sample=False)
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    # The host leaves out what comes within a tenth of a second.
    assert steps[0] == 1 and steps[-1] == len(ids) and steps == sorted(set(steps))


def test_canceling_stops_within_a_token(load):
    import comfy.model_management

    clip, runs = load(), []

    def cancel_in_third_run(*_):
        runs.append(1)
        if len(runs) == 3:
            comfy.model_management.interrupt_current_processing()

    encoder_of(clip).transformer.model.layers[0].register_forward_hook(cancel_in_third_run)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        raw_ids(clip, "a cat", do_sample=False)
    assert len(runs) == 3


def test_picture_that_nobody_looks_at_is_mentioned(load, caplog):
    clip = load()
    with caplog.at_level(logging.WARNING):
        text = node_text(clip, "a cat", image=torch.zeros(1, 8, 8, 3))
    assert "only reads the prompt: image not used" in caplog.text
    assert text == node_text(clip, "a cat")


def test_what_a_newer_host_asks_for_is_accepted_and_mentioned_if_it_matters(load, caplog):
    clip = load()
    expected = raw_ids(clip, "a cat", do_sample=False)
    tokens = clip.tokenize("a cat", skip_template=True, images=None, system_prompt="")
    arguments = (False, TOKENS, 1.0, 0, 1.0, 0.0, 1.0, None)
    with caplog.at_level(logging.WARNING):
        assert encoder_of(clip).generate(tokens, *arguments, mtp=2, future=None) == expected
        assert not caplog.text
        encoder_of(clip).generate(tokens, *arguments, future=3)
        assert "the same with or without future" in caplog.text
        clip.tokenize("a cat", skip_template=True, images=[torch.ones(1)], system_prompt="Be brief")
        assert "only reads the prompt: images and system_prompt not used" in caplog.text


@pytest.mark.parametrize(
    "family, message", [("llama", 'LLaMA-2 .* cannot write: .*"lm_head.weight"'), ("t5", "Gemma")]
)
def test_text_encoder_that_cannot_write_says_so(host, family, message):
    from lumina_next.host.text_encoders import loading

    tiny.write_text_encoder(host, family)
    clip = loading.load_text_encoder(f"{family}.safetensors")
    with pytest.raises(ValueError, match=message):
        node_text(clip, "a cat")


def test_setting_out_of_range_is_named(load):
    with pytest.raises(ValueError, match="repetition_penalty must be above 0, got 0"):
        node_text(load(), "a cat", SAMPLED | {"repetition_penalty": 0.0})
