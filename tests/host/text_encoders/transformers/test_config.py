"""What config.json and the tokenizer say, and what cannot be used."""

import inspect

import pytest
import transformers
from torch.testing import assert_close

from lumina_next.tests.support.any_text_models import (
    ENCODERS,
    FAMILIES,
    LLAMA_3_SCALING,
    REMOTE,
    SIZES,
    TEMPLATES,
    host_model,
    host_state,
    oracle,
    states,
    whole,
)
from lumina_next.tests.support.token_rows import ALL


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


def rules(kind, template, **changes):
    from lumina_next.host.text_encoders.transformers import config

    parsed = config.read_config(FAMILIES[kind] | changes)
    return config.prompt_format(parsed, template and whole(template))


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
