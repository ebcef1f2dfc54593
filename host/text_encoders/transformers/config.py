"""Reads any text model's config.json with transformers, and derives its prompt format."""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping

import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    PretrainedConfig,
)

from ....lumina.checkpoints.config_json import ConfigJson
from ....lumina.prompts.formats import HIDDEN_STATE, MAX_TOKENS, PromptFormat
from .text_part import text_part

NAME = "transformers_model"  # of the encoder inside a CLIP
# Ignored: code to run, which is never run, and dtype and implementation, which the host decides.
_IGNORED = {"auto_map", "dtype", "torch_dtype", "attn_implementation", "_attn_implementation"}
_IGNORED |= {"experts_implementation", "_experts_implementation"}


def read_config(config_json: ConfigJson, *, source: str = "config.json") -> PretrainedConfig:
    """The config of the text model in a parsed config.json; of an encoder-decoder, all of it.

    Raises ValueError for a model that the installed transformers does not have built in, or whose
    config it would misread.
    """
    _check_built_in(config_json, source)
    model_type = config_json["model_type"]
    config_class, settings = text_part(_without_ignored(config_json), source)
    try:
        config = config_class(**settings)
    except Exception as error:  # each model checks its own sizes, by errors of all kinds
        raise ValueError(
            f'{source} cannot be read as that of a "{model_type}" model by transformers '
            f"{transformers.__version__}: {shortened(error)}"
        ) from error
    parameters = inspect.signature(type(config)).parameters
    is_older = "rope_theta" in parameters and "rope_parameters" not in parameters
    if is_older and any("rope_parameters" in nested for nested in _nested(config_json)):
        raise ValueError(
            f"{source} was written by a newer transformers: {transformers.__version__}, which is "
            'installed, does not know its "rope_parameters" and would give wrong features. '
            "Update it: pip install -U transformers."
        )
    config.use_cache = False
    return config


def _check_built_in(config_json: ConfigJson, source: str) -> None:
    model_type = config_json.get("model_type")
    if not isinstance(model_type, str):
        raise ValueError(
            f'{source} does not say which model it is of: it has no "model_type". Use the '
            "config.json that came with the weights."
        )
    if model_type not in CONFIG_MAPPING and "auto_map" in config_json:
        raise ValueError(
            f'{source} is of a "{model_type}" model, which runs Python code from its own folder '
            '("auto_map"). Such code is never run here. Use a model that transformers has built '
            "in, or a conversion of this one to such a model."
        )
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f'{source} is of a "{model_type}" model, which transformers {transformers.__version__} '
            "does not have. If the model is newer than that, update it: "
            "pip install -U transformers."
        )
    quantization = config_json.get("quantization_config")
    if isinstance(quantization, Mapping):
        raise ValueError(
            f'{source} is of a model quantized by "{quantization.get("quant_method")}", '
            "which ComfyUI does not read. Use the full weights, or a file quantized for ComfyUI."
        )


def _without_ignored(config_json: ConfigJson) -> dict[str, object]:
    return {
        key: _without_ignored(value) if isinstance(value, Mapping) else value
        for key, value in config_json.items()
        if key not in _IGNORED
    }


def _nested(config_json: ConfigJson) -> Iterator[ConfigJson]:
    """A config and all configs inside it."""
    yield config_json
    for value in config_json.values():
        if isinstance(value, Mapping):
            yield from _nested(value)


def shortened(error: Exception) -> str:
    """The text of an error of transformers; some of them list every model that there is."""
    return textwrap.shorten(str(error), 300) or type(error).__name__


def prompt_format(
    config: PretrainedConfig, with_special_tokens: Callable[[str], list[int]] | None
) -> PromptFormat:
    """The prompt format: special tokens as the model's own tokenizer adds them, and hidden state.

    with_special_tokens: that of a `Tokenizer` in `prompts.vocabulary`. Where it is None, as in a
    SentencePiece model, a language model gets its begin token and an encoder its end token.
    """
    is_encoder = config.is_encoder_decoder or type(config) in MODEL_FOR_MASKED_LM_MAPPING
    config_pad, config_begin, *ends = _special_tokens(config)
    if with_special_tokens is None:
        begin = None if is_encoder else config_begin
        end = next(iter(ends), None) if is_encoder else None
    else:
        begin, end = _begin_and_end(with_special_tokens)
    # The host masks this token everywhere, so no text or chat template may have it. Qwen's config
    # has no pad token; its begin token, which is not put before a text, takes that role.
    pads = [config_pad, config_begin, *ends, config.vocab_size - 1, 0]
    return PromptFormat(
        name=NAME,
        begin=begin,
        end=end if end is not None else next(iter(ends), None),
        pad=next(token for token in pads if token is not None and token != begin),
        adds_end=end is not None,
        limit=MAX_TOKENS,
        # An encoder is trained to be read at its output.
        hidden_state=-1 if is_encoder else HIDDEN_STATE,
        published_as="the same model",
        tokenizer_file="tokenizer.json",
        has_fixed_tokens=False,
    )


def _special_tokens(config: PretrainedConfig) -> list[int | None]:
    """The pad and the begin token in a config, each None if it has none, then all end tokens."""
    pad, begin, end = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos"))
    vocabulary = range(config.vocab_size)
    ends = [token for token in (end if isinstance(end, list) else [end]) if token in vocabulary]
    return [*(token if token in vocabulary else None for token in (pad, begin)), *ends]


def _begin_and_end(
    with_special_tokens: Callable[[str], list[int]],
) -> tuple[int | None, int | None]:
    """The token before any text and the one after it, each None if there is none."""
    empty, letter = with_special_tokens(""), with_special_tokens("a")
    begin = empty[0] if empty and letter[0] == empty[0] else None
    after_begin = empty if begin is None else empty[1:]
    return begin, after_begin[-1] if after_begin and letter[-1] == after_begin[-1] else None
