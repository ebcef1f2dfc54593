"""Mutations of index files and of config.json."""

import json

from lumina_next.tests.support.mutations.case import NAMES, VALUES

CONFIG_KEYS = [
    "model_type", "sample_size", "rope_theta", "rope_scaling", "rope_parameters", "head_dim",
    "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "intermediate_size", "rms_norm_eps", "num_labels", "id2label", "max_position_embeddings",
    "n_positions", "quantization_config", "architectures", "is_encoder_decoder", "text_config",
    "layer_types", "hidden_act", "attention_bias", "d_model", "num_layers", "feed_forward_proj",
    "layer_norm_epsilon", "tie_word_embeddings", "pad_token_id", "eos_token_id", "bos_token_id",
]  # fmt: skip
MODEL_TYPES = ["gemma", "gemma2", "llama", "t5", "bert", "gpt2", "qwen2", "clip", "nonsense"]


def sound_index(case, index, weight_map):
    index.write_text(json.dumps({"weight_map": weight_map}))


def index_value(case, index, weight_map):
    weight_map[case.key()] = case.chance.choice([*NAMES, *VALUES, "absent.safetensors", "a" * 400])
    index.write_text(json.dumps({"weight_map": weight_map}))


def index_text(case, index, weight_map):
    nested = b'{"weight_map":' + b"[" * 100_000
    texts = [b"", b"[]", b"{}", b"{", nested, b'{"a":' * 100_000, b"\xff\xfe", b'{"weight_map":3}']
    index.write_bytes(case.chance.choice(texts))


def index_names_too_many(case, index, weight_map):
    many = {f"w{i}": f"f{i}.safetensors" for i in range(20_000)}
    index.write_text(json.dumps({"weight_map": weight_map | many}))


def index_is_a_folder(case, index, weight_map):
    index.mkdir()


def index_links_to_itself(case, index, weight_map):
    index.symlink_to(index.name)


def index_links_nowhere(case, index, weight_map):
    index.symlink_to("absent.json")


def shard_number(case, index, weight_map):
    """No index: the shards say by their names which of how many they are."""
    numbers = ["00001-of-999999999", "00001-of-00000", "00000-of-00001", "00003-of-00002"]
    numbers += ["9" * 100 + "-of-" + "9" * 100, "00001-of-00001"]
    shard = next(index.parent.glob("*-00001-*"))
    shard.rename(shard.with_name(f"model-{case.chance.choice(numbers)}.safetensors"))
    next(index.parent.glob("*-00002-of-00002*")).unlink()


ON_INDEX = [sound_index, index_value, index_value, index_text, index_names_too_many]
ON_INDEX += [index_is_a_folder, index_links_to_itself, index_links_nowhere, shard_number]


def sound_config(case):
    pass


def config_value(case):
    case.config_json[case.chance.choice(CONFIG_KEYS)] = case.chance.choice(VALUES)


def config_values(case):
    for _ in range(5):
        config_value(case)


def config_of_another_model(case):
    case.config_json["model_type"] = case.chance.choice(MODEL_TYPES)
    config_value(case)


def config_text(case):
    texts = [b"", b"{", b"[]", b"3", b"\xff\xfe{}", b'{"a":' * 100_000, b"[" * 100_000, b"nul"]
    texts += [b'{"a":' * 900 + b"1" + b"}" * 900, b'{"hidden_size": ' + b"9" * 5000 + b"}"]
    return case.chance.choice(texts)


ON_CONFIG = [sound_config, config_value, config_value, config_values, config_of_another_model]
ON_CONFIG += [config_text]
