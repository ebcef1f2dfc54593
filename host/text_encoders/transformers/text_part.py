"""Finds the part of a config.json that reads text, and the class of transformers that reads it.

Some classes fetch from the hub what a config.json names, with the user's token, as soon as they are
made: those of models that are put together from others, such as a backbone. None of them is ever
made here; a text model inside a larger one is read on its own.
"""

from collections.abc import Mapping

from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    PretrainedConfig,
)

from ....lumina.checkpoints.config_json import ConfigJson

_TEXT_MODELS = (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    # Where transformers before version 5 has no class for the text model alone.
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
)
# They fetch kernels from the hub when they are built on a computer with an NVIDIA card.
_FETCH_KERNELS = {"mra", "rwkv", "yoso"}
_TEXT = "text_config"

ConfigClass = type[PretrainedConfig]


def text_part(config_json: ConfigJson, source: str) -> tuple[ConfigClass, dict[str, object]]:
    """The class of a config.json's text model, and the settings to make it from.

    Raises ValueError for a model that does not read text, or not without parts of other models.
    """
    model_type = str(config_json["model_type"])
    whole = CONFIG_MAPPING[model_type]
    config_class, settings = _inside(whole, config_json)
    is_known = config_class is not whole or _reads_text(model_type, whole)
    if config_class is None or not is_known or not _is_complete(config_class):
        raise ValueError(
            f'{source} is of a "{model_type}" model, which does not read text without parts of '
            "other models, or not at all. Choose the folder of a language model."
        )
    return config_class, {key: value for key, value in settings.items() if key != "model_type"}


def _inside(whole: ConfigClass, config_json: ConfigJson) -> tuple[ConfigClass | None, ConfigJson]:
    """The text model inside a larger one, or the model itself if it has none inside."""
    parts = _parts(whole)
    if _TEXT not in parts:
        return whole, config_json
    config_class, settings = parts[_TEXT], config_json.get(_TEXT)
    if not isinstance(settings, Mapping):  # older files have the text model's settings at the top
        settings = {key: value for key, value in config_json.items() if key not in parts}
        return (None if config_class is AutoConfig else config_class), settings
    if config_class is not AutoConfig:
        return config_class, settings
    model_type = str(settings.get("model_type"))
    named = CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else None
    return (named if named and _reads_text(model_type, named) else None), settings


def _reads_text(model_type: str, config_class: ConfigClass) -> bool:
    if any(config_class in models for models in _TEXT_MODELS):
        return True
    larger = model_type.removesuffix("_text")  # "qwen2_vl_text" is the text model of "qwen2_vl"
    return (
        larger != model_type
        and larger in CONFIG_MAPPING
        and _parts(CONFIG_MAPPING[larger]).get(_TEXT) is config_class
    )


def _is_complete(config_class: ConfigClass) -> bool:
    """Whether a class says itself what each of its parts is, and fetches nothing."""
    return config_class.model_type not in _FETCH_KERNELS and all(
        part is not AutoConfig and _is_complete(part) for part in _parts(config_class).values()
    )


def _parts(config_class: ConfigClass) -> Mapping[str, ConfigClass]:
    """The classes of the configs inside of one, by name; AutoConfig where config.json names it."""
    parts = config_class.sub_configs
    # Before version 5 some classes find them out from a config that is made already.
    return parts if isinstance(parts, Mapping) else {"backbone_config": AutoConfig}
