"""Any text model that transformers has built in, as a network without memory for its weights.

Only transformers' public interface is used, and no code that comes with a model is ever run.
"""

import inspect
from collections.abc import Iterator, Mapping

import torch
import transformers
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
)

from .config import _in_short
from .weights import TextModel


class _WithoutMemory(TorchFunctionMode):
    """Inside it, tensors to be filled from a file have a shape only; computed ones are real.

    torch.device("meta") would leave without data also what no file has, such as the frequencies
    of rotary embeddings. transformers' no_init_weights reserves room for every weight, 6 GB for
    1.5 billion. accelerate's init_empty_weights makes two of a weight that is used twice, and
    ComfyUI does not require accelerate.
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
