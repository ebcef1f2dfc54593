"""What the config.json of any text model says, as transformers reads it."""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping

import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    PretrainedConfig,
)

from ....lumina.prompts.formats import HIDDEN_STATE, MAX_TOKENS, PromptFormat
from ....lumina.text_encoders.config_json import ConfigJson

NAME = "transformers_model"  # of the encoder inside a CLIP
# Not about the network: whose code to run, and how to store and compute, which the host decides.
_NOT_SIZES = {"auto_map", "dtype", "torch_dtype", "attn_implementation", "_attn_implementation"}
_NOT_SIZES |= {"experts_implementation", "_experts_implementation"}


def read_config(config_json: ConfigJson, *, source: str = "config.json") -> PretrainedConfig:
    """The text part of a parsed config.json; of an encoder-decoder all of it.

    Raises ValueError for a model that the installed transformers does not have built in, or that
    it would read wrongly.
    """
    _check_built_in(config_json, source)
    kind = config_json["model_type"]
    try:
        config = AutoConfig.for_model(**_sizes(config_json))
        config = config if config.is_encoder_decoder else config.get_text_config()
    except Exception as error:  # each model checks its own sizes, by errors of all kinds
        raise ValueError(
            f'{source} cannot be read as that of a "{kind}" model by transformers '
            f"{transformers.__version__}: {_in_short(error)}"
        ) from error
    known = inspect.signature(type(config)).parameters
    is_older = "rope_theta" in known and "rope_parameters" not in known
    if is_older and any("rope_parameters" in part for part in _parts(config_json)):
        raise ValueError(
            f"{source} was written by a newer transformers: {transformers.__version__}, which is "
            'installed, does not know its "rope_parameters" and would give wrong features. '
            "Update it: pip install -U transformers."
        )
    config.use_cache = False
    return config


def _check_built_in(config_json: ConfigJson, source: str) -> None:
    kind = config_json.get("model_type")
    if not isinstance(kind, str):
        raise ValueError(
            f'{source} does not say which model it is of: it has no "model_type". Use the '
            "config.json that came with the weights."
        )
    if kind not in CONFIG_MAPPING and "auto_map" in config_json:
        raise ValueError(
            f'{source} is of a "{kind}" model, which runs Python code from its own folder '
            '("auto_map"). Such code is never run here. Use a model that transformers has built '
            "in, or a conversion of this one to such a model."
        )
    if kind not in CONFIG_MAPPING:
        raise ValueError(
            f'{source} is of a "{kind}" model, which transformers {transformers.__version__} does '
            "not have. If the model is newer than that, update it: pip install -U transformers."
        )
    quantized = config_json.get("quantization_config")
    if isinstance(quantized, Mapping):
        raise ValueError(
            f'{source} is of a model quantized by "{quantized.get("quant_method")}", which ComfyUI '
            "does not read. Use the full weights, or a file quantized for ComfyUI."
        )


def _sizes(config_json: ConfigJson) -> dict[str, object]:
    return {
        key: _sizes(value) if isinstance(value, Mapping) else value
        for key, value in config_json.items()
        if key not in _NOT_SIZES
    }


def _parts(config_json: ConfigJson) -> Iterator[ConfigJson]:
    yield config_json
    for value in config_json.values():
        if isinstance(value, Mapping):
            yield from _parts(value)


def _in_short(error: Exception) -> str:
    # Some go on to list all models that there are.
    return textwrap.shorten(str(error), 300) or type(error).__name__


def prompt_format(
    config: PretrainedConfig, with_special_tokens: Callable[[str], list[int]] | None
) -> PromptFormat:
    """How the model's own tokenizer reads a prompt, and which hidden state its features are.

    with_special_tokens: as a `Tokenizer` of `prompts.vocabulary` has it. None if it cannot tell,
    as a bare vocabulary: then a language model gets its begin token, an encoder its end token.
    """
    is_encoder = config.is_encoder_decoder or type(config) in MODEL_FOR_MASKED_LM_MAPPING
    own_pad, own_begin, *ends = _special_tokens(config)
    if with_special_tokens is None:
        begin = None if is_encoder else own_begin
        end = next(iter(ends), None) if is_encoder else None
    else:
        begin, end = _around(with_special_tokens)
    # Hidden from the model wherever it stands, so a token that no text has, nor a chat's template:
    # Qwen's config says none, but its begin token, which is not put before a text, is for this.
    unread = [own_pad, own_begin, *ends, config.vocab_size - 1, 0]
    return PromptFormat(
        name=NAME,
        begin=begin,
        end=end if end is not None else next(iter(ends), None),
        pad=next(token for token in unread if token is not None and token != begin),
        adds_end=end is not None,
        limit=MAX_TOKENS,
        # Encoders are trained for their output.
        hidden_state=-1 if is_encoder else HIDDEN_STATE,
        published_as="the same model",
        tokenizer_file="tokenizer.json",
        are_fixed=False,
    )


def _special_tokens(config: PretrainedConfig) -> list[int | None]:
    """Tokens to pad with and to begin a text, None for none, then all those that end one."""
    pad, begin, end = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos"))
    known = range(config.vocab_size)
    ends = [token for token in (end if isinstance(end, list) else [end]) if token in known]
    return [*(token if token in known else None for token in (pad, begin)), *ends]


def _around(with_special_tokens: Callable[[str], list[int]]) -> tuple[int | None, int | None]:
    """The tokens before and after any text, None for none."""
    nothing, letter = with_special_tokens(""), with_special_tokens("a")
    begin = nothing[0] if nothing and letter[0] == nothing[0] else None
    rest = nothing if begin is None else nothing[1:]
    return begin, rest[-1] if rest and letter[-1] == rest[-1] else None
