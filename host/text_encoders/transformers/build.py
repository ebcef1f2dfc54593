"""Builds any text model that transformers has built in, without memory for its weights.

Only transformers' public interface is used, and no code that comes with a model is ever run.
"""

import inspect
import math
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

from .config import shortened
from .weights import TextModel

_FILLED = (torch.zeros, torch.ones, torch.randn)
LARGEST_COMPUTED = 2**24  # numbers; mixtures of experts fill more, 10 GB for LLaMA-4


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
        is_weight = function is torch.empty or (
            function in _FILLED and _count(arguments, options) > LARGEST_COMPUTED
        )
        if is_weight and options.get("device") is None:
            options["device"] = "meta"
        return function(*arguments, **options)


def _count(arguments: tuple, options: Mapping[str, object]) -> int:
    """How many numbers a function such as torch.zeros is asked for."""
    size = options.get("size", arguments)
    return math.prod(size[0] if size and not isinstance(size[0], int) else size)


def build(config: PretrainedConfig, *, source: str = "config.json") -> TextModel:
    """The text model of a config from `read_config`, without weights.

    Raises ValueError if it does not read text, cannot run from embeddings, or keeps weights outside
    of layers, where the host cannot move them.
    """
    try:
        with _WithoutMemory():
            # "eager" is the only attention that every model has, and it is exact in each.
            model = AutoModel.from_config(
                config, trust_remote_code=False, attn_implementation="eager"
            )
        network = model.get_encoder() if config.is_encoder_decoder else model
    except Exception as error:  # each model checks its own sizes, by errors of all kinds
        raise ValueError(
            f'transformers {transformers.__version__} cannot build the "{config.model_type}" model '
            f"of {source}: {shortened(error)}"
        ) from error
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # it follows the last hidden state, and not every file has it
    _check_reads_text(network, config.model_type, source)
    _check_layers(network, source)
    prefix = next(name for name, module in model.named_modules() if module is network)
    prefix = prefix and prefix + "."
    return TextModel(network.eval().requires_grad_(False), prefix, _tied_names(model, prefix))


def _check_reads_text(network: nn.Module, model_type: str, source: str) -> None:
    if not isinstance(network, PreTrainedModel):
        raise ValueError(
            f'{source} is of a "{model_type}" model, whose encoder transformers does not offer as '
            "a model of its own. It cannot be used here."
        )
    parameters = inspect.signature(network.forward).parameters
    try:
        embedding = network.get_input_embeddings()
    except NotImplementedError:
        embedding = None
    if not isinstance(embedding, nn.Embedding) or "attention_mask" not in parameters:
        raise ValueError(f'{source} is of a "{model_type}" model, which does not read text.')
    if "inputs_embeds" not in parameters or "per_layer_inputs" in parameters:
        raise ValueError(
            f'{source} is of a "{model_type}" model, which needs the tokens themselves and not '
            "only their embeddings, as ComfyUI hands them over. It cannot be used here."
        )


def _check_layers(network: PreTrainedModel, source: str) -> None:
    """Raise ValueError for a model with tensors that the host would not move."""
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
    """Name and module of each layer that the host can move: weight, perhaps bias, no children."""
    for name, module in network.named_modules():
        parameters = {key for key, _ in module.named_parameters(recurse=False)}
        if parameters in ({"weight"}, {"weight", "bias"}) and not any(module.children()):
            yield name, module


def _tied_names(model: nn.Module, prefix: str) -> dict[str, tuple[str, ...]]:
    """The names in `model` that share a weight with one of its text model, by its name there."""
    names_of: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(weight), []).append(name)
    return {
        name.removeprefix(prefix): tuple(other for other in names if other != name)
        for names in names_of.values()
        for name in names
        if name.startswith(prefix) and len(names) > 1
    }
