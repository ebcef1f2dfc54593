"""Any text model that transformers has built in: what its config.json and its weights' names say.

The network is built here without memory for its weights. Only transformers' public interface is
used, and no code that comes with a model is ever run.
"""

import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
import transformers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
)

from ..lumina.prompts.rules import HIDDEN_STATE, MAX_TOKENS, Rules

NAME = "transformers_model"  # of the encoder inside a CLIP
# Not about the network: whose code to run, and how to store and compute, which the host decides.
_NOT_SIZES = {"auto_map", "dtype", "torch_dtype", "attn_implementation", "_attn_implementation"}
_NOT_SIZES |= {"experts_implementation", "_experts_implementation"}
_HEADS = ("lm_head.", "pooler.")  # parts around the layers that are saved beside them
_SCALES = {"comfy_quant", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale"}
_OLD_SCALES = {"weight_scale", "input_scale", "scale_weight", "scale_input"}

Stated = Mapping[str, object]


@dataclass(frozen=True)
class TextModel:
    """The part of a model that reads text, as transformers builds it, still without weights.

    place: where that part is in the whole, "encoder." or "". shared: under its own names, the
    whole's other names of a weight that it uses more than once.
    """

    network: PreTrainedModel
    place: str
    shared: Mapping[str, tuple[str, ...]]

    @property
    def kind(self) -> str:
        return self.network.config.model_type

    @property
    def vocabulary(self) -> int:
        """How many tokens it has embeddings for."""
        return self.network.get_input_embeddings().num_embeddings

    @property
    def width(self) -> int:
        """Features of one embedding."""
        return self.network.get_input_embeddings().embedding_dim

    def to_native(self, weights: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
        """Its weights out of a file, under its own names; they are not copied.

        Takes any prefix that a larger model around it leads to, and leaves out all that is not
        under it, such as a picture encoder, and output heads. Tensors may be on device "meta", as
        read from a header. Raises ValueError that names `source` and a key that is missing,
        unknown or of another shape.
        """
        shapes = {key: tensor.shape for key, tensor in self.network.state_dict().items()}
        prefix = _prefix(weights, shapes)
        if prefix is None:
            raise ValueError(
                f'{source} is not the "{self.kind}" model of its config.json: it has no weight '
                f'such as "{next(iter(shapes))}". Both must be of the same model.'
            )
        whole = prefix.removesuffix(self.place)
        names = {
            key: [prefix + key, *(whole + other for other in self.shared.get(key, ()))]
            for key in shapes
        }
        native = {
            key: weights[name] for key, known in names.items() for name in known if name in weights
        }
        self._check_complete(native, shapes, prefix, source)
        rest = weights.keys() - {name for known in names.values() for name in known}
        inside = {key.removeprefix(prefix): weights[key] for key in rest if key.startswith(prefix)}
        return native | self._scales(inside, prefix, source)

    def _check_complete(
        self,
        native: Mapping[str, Tensor],
        shapes: Mapping[str, torch.Size],
        prefix: str,
        source: str,
    ) -> None:
        missing = [key for key in shapes if key not in native]
        if missing:
            raise ValueError(
                f'{source} is incomplete: "{prefix}{missing[0]}" is missing, with '
                f'{len(missing) - 1} more of the {len(shapes)} that its config.json, a "{self.kind}'
                '" model, asks for. If the model comes in several files, all of them are needed; '
                "if config.json is another model's, choose its own."
            )
        for key, shape in shapes.items():
            is_packed = native[key].dtype == torch.uint8
            if native[key].shape != shape and not is_packed:
                raise ValueError(
                    f'{source} does not fit its config.json: "{prefix}{key}" is '
                    f"{tuple(native[key].shape)} in the one and {tuple(shape)} by the other. "
                    "Download both again, from the same model."
                )

    def _scales(self, tensors: Mapping[str, Tensor], prefix: str, source: str) -> dict[str, Tensor]:
        """Of tensors that the network does not ask for, those of layers the host quantised."""
        layers = dict(self.network.named_modules())
        computed = {name for name, _ in self.network.named_buffers()}
        scales = {}
        for key, tensor in tensors.items():
            layer, _, name = key.rpartition(".")
            is_table = key in computed or key.endswith("rotary_emb.inv_freq")
            if not layer or key.startswith(_HEADS) or is_table:
                continue
            is_marked = name in _SCALES and f"{layer}.comfy_quant" in tensors
            # Older files carry the mark in their metadata, which a header's tensors are without.
            is_marked |= name in _OLD_SCALES and tensor.is_meta
            if not is_marked or not self._may_be_quantised(layers.get(layer)):
                raise ValueError(
                    f'{source} has "{prefix}{key}", which is no part of the "{self.kind}" model '
                    "that its config.json describes. Choose the config.json of the same model; if "
                    "the weights are quantised, a file in one of ComfyUI's formats."
                )
            scales[key] = tensor
        return scales

    def _may_be_quantised(self, layer: nn.Module | None) -> bool:
        is_plain = type(layer) in (nn.Linear, nn.Embedding)
        return is_plain or layer is self.network.get_input_embeddings()


def _prefix(keys: Iterable[str], wanted: Mapping[str, object]) -> str | None:
    """What most keys have before a wanted name; None if no key ends with one."""
    found: Counter[str] = Counter()
    for key in keys:
        words = key.split(".")
        for start in range(len(words)):
            if ".".join(words[start:]) in wanted:
                found["".join(word + "." for word in words[:start])] += 1
    return found.most_common(1)[0][0] if found else None


def read_config(stated: Stated, *, source: str = "config.json") -> PretrainedConfig:
    """The text part of a parsed config.json; of an encoder-decoder all of it.

    Raises ValueError for a model that the installed transformers does not have built in, or that
    it would read wrongly.
    """
    _check_built_in(stated, source)
    kind = stated["model_type"]
    try:
        config = AutoConfig.for_model(**_sizes(stated))
        config = config if config.is_encoder_decoder else config.get_text_config()
    except Exception as error:  # each model checks its own sizes, by errors of all kinds
        raise ValueError(
            f'{source} cannot be read as that of a "{kind}" model by transformers '
            f"{transformers.__version__}: {_in_short(error)}"
        ) from error
    known = inspect.signature(type(config)).parameters
    is_older = "rope_theta" in known and "rope_parameters" not in known
    if is_older and any("rope_parameters" in part for part in _parts(stated)):
        raise ValueError(
            f"{source} was written by a newer transformers: {transformers.__version__}, which is "
            'installed, does not know its "rope_parameters" and would give wrong features. '
            "Update it: pip install -U transformers."
        )
    config.use_cache = False
    return config


def _check_built_in(stated: Stated, source: str) -> None:
    kind = stated.get("model_type")
    if not isinstance(kind, str):
        raise ValueError(
            f'{source} does not say which model it is of: it has no "model_type". Use the '
            "config.json that came with the weights."
        )
    if kind not in CONFIG_MAPPING and "auto_map" in stated:
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
    quantised = stated.get("quantization_config")
    if isinstance(quantised, Mapping):
        raise ValueError(
            f'{source} is of a model quantised by "{quantised.get("quant_method")}", which ComfyUI '
            "does not read. Use the full weights, or a file quantised for ComfyUI."
        )


def _sizes(stated: Stated) -> dict[str, object]:
    return {
        key: _sizes(value) if isinstance(value, Mapping) else value
        for key, value in stated.items()
        if key not in _NOT_SIZES
    }


def _parts(stated: Stated) -> Iterator[Stated]:
    yield stated
    for value in stated.values():
        if isinstance(value, Mapping):
            yield from _parts(value)


def _in_short(error: Exception) -> str:
    # Some go on to list all models that there are.
    return textwrap.shorten(str(error), 300) or type(error).__name__


def rules(config: PretrainedConfig, whole: Callable[[str], list[int]] | None) -> Rules:
    """How the model's own tokenizer reads a prompt, and which hidden state its features are.

    whole: tokens of a text with all that this tokenizer puts around it. None if it does not say,
    as a bare vocabulary: then a language model gets its begin token, an encoder its end token.
    """
    is_encoder = config.is_encoder_decoder or type(config) in MODEL_FOR_MASKED_LM_MAPPING
    own_pad, own_begin, *ends = _special_tokens(config)
    if whole is None:
        begin = None if is_encoder else own_begin
        end = next(iter(ends), None) if is_encoder else None
    else:
        begin, end = _around(whole)
    # Hidden from the model wherever it stands, so a token that no text has, nor a chat's template:
    # Qwen's config says none, but its begin token, which is not put before a text, is for this.
    unread = [own_pad, own_begin, *ends, config.vocab_size - 1, 0]
    return Rules(
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


def _around(whole: Callable[[str], list[int]]) -> tuple[int | None, int | None]:
    """The tokens before and after any text, None for none."""
    nothing, letter = whole(""), whole("a")
    begin = nothing[0] if nothing and letter[0] == nothing[0] else None
    rest = nothing if begin is None else nothing[1:]
    return begin, rest[-1] if rest and letter[-1] == rest[-1] else None


class _WithoutMemory(TorchFunctionMode):
    """Inside it, tensors to be filled from a file have a shape only; computed ones are real.

    torch.device("meta") would leave without data also what no file has, such as the frequencies
    of rotary embeddings.
    """

    def __torch_function__(
        self,
        function: object,
        types: object,
        arguments: tuple = (),
        options: Mapping[str, object] | None = None,
    ) -> object:
        options = dict(options or {})
        if function is torch.empty and options.get("device") is None:
            options["device"] = "meta"
        return function(*arguments, **options)


def build(config: PretrainedConfig, *, source: str = "config.json") -> TextModel:
    """The network of a config from `read_config`.

    Raises ValueError if it reads no text, or cannot be run from embeddings, or keeps weights
    where the host does not look for them.
    """
    try:
        with _WithoutMemory():
            # "eager" is the one kind of attention that every model has, and exact in each.
            whole = AutoModel.from_config(
                config, trust_remote_code=False, attn_implementation="eager"
            )
        network = whole.get_encoder() if config.is_encoder_decoder else whole
    except Exception as error:  # each model checks its own sizes, by errors of all kinds
        raise ValueError(
            f'transformers {transformers.__version__} cannot build the "{config.model_type}" model '
            f"of {source}: {_in_short(error)}"
        ) from error
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # comes after the last state, and not in every file
    _check_reads_text(network, source)
    _check_layers(network, source)
    place = next(name for name, module in whole.named_modules() if module is network)
    place = place and place + "."
    return TextModel(network.eval().requires_grad_(False), place, _shared(whole, place))


def _check_reads_text(network: PreTrainedModel, source: str) -> None:
    kind, takes = network.config.model_type, inspect.signature(network.forward).parameters
    try:
        embedding = network.get_input_embeddings()
    except NotImplementedError:
        embedding = None
    if not isinstance(embedding, nn.Embedding) or "attention_mask" not in takes:
        raise ValueError(f'{source} is of a "{kind}" model, which does not read text.')
    if "inputs_embeds" not in takes or "per_layer_inputs" in takes:
        raise ValueError(
            f'{source} is of a "{kind}" model, which needs the tokens themselves and not only '
            "their embeddings, as ComfyUI hands them over. It cannot be used here."
        )


def _check_layers(network: PreTrainedModel, source: str) -> None:
    """Raise ValueError for a model with data that the host would leave on the wrong device."""
    movable = {
        f"{name}.{key}" for name, layer in weighted_layers(network) for key in layer.state_dict()
    }
    loose = [key for key in network.state_dict() if key not in movable]
    loose += [name for name, buffer in network.named_buffers() if buffer.is_meta]
    if loose:
        raise ValueError(
            f'{source} is of a "{network.config.model_type}" model, which keeps "{loose[0]}" '
            "outside of its layers, as mixtures of experts do: ComfyUI could not move it. It "
            "cannot be used here."
        )


def weighted_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of each layer as the host moves them: a weight, perhaps a bias, no parts."""
    for name, module in network.named_modules():
        own = {key for key, _ in module.named_parameters(recurse=False)}
        if own in ({"weight"}, {"weight", "bias"}) and not any(module.children()):
            yield name, module


def _shared(whole: nn.Module, place: str) -> dict[str, tuple[str, ...]]:
    names: dict[int, list[str]] = {}
    for name, weight in whole.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    return {
        name.removeprefix(place): tuple(other for other in known if other != name)
        for known in names.values()
        for name in known
        if name.startswith(place) and len(known) > 1
    }
