"""Any text model that transformers has built in as ComfyUI's CLIP.

transformers computes, the host's layers hold the weights: under the checkpoint's names, so that
the host streams, casts and patches them as those of its own text encoders.
"""

import copy

import comfy.ops
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..networks import as_host_expects
from .build import build, weighted_layers
from .config import ConfigJson, read_config


class HostTransformers(nn.Module):
    """A text model of transformers in the form that the host's SDClipModel drives.

    config_json: parsed. dtype: of matrices. Vectors, such as those of norms, are small and kept in
    float32.
    """

    def __init__(
        self,
        config_json: ConfigJson,
        dtype: torch.dtype | None,
        device: torch.device | None,
        operations: type,
    ) -> None:
        super().__init__()
        network = build(read_config(config_json)).network
        embedding = network.get_input_embeddings()
        self.model = nn.Module()
        for name, layer in list(weighted_layers(network)):
            held = _held_by_host(layer, layer is embedding, operations, dtype, device)
            _place(self.model, name, held)
            # The layer itself stays in the network, in float32 as it was built: T5 rounds its
            # activations to the dtype it finds there, which must not be that of the storage.
            layer.forward = held.__call__
            if layer is embedding:
                self._embedding_name = name
        # In a tuple, or the host would find the layers twice.
        self._network = (network,)
        # One state more than there are layers: the host asks for states by this number.
        self.num_layers = network.config.num_hidden_layers + 1

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_submodule(self._embedding_name)

    def forward(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        *,
        embeds: Tensor,
        intermediate_output: int | list[int] | str | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor]:
        """(output, hidden state): as `HostDecoder.forward`."""

        def states(numbers: list[int]) -> list[Tensor]:
            (network,) = self._network
            _move_tables(network, embeds.device)
            found = network(
                inputs_embeds=embeds, attention_mask=attention_mask, output_hidden_states=True
            ).hidden_states
            return [found[number] for number in numbers]

        return as_host_expects(intermediate_output, self.num_layers, states)


def _move_tables(network: nn.Module, device: torch.device) -> None:
    """Move what a network computed for itself, such as rotary frequencies, to the device."""
    for module in network.modules():
        for name, table in module.named_buffers(recurse=False):
            if table.device != device:
                setattr(module, name, table.to(device))


def _place(tree: nn.Module, name: str, layer: nn.Module) -> None:
    *path, last = name.split(".")
    for part in path:
        if not hasattr(tree, part):
            tree.add_module(part, nn.Module())
        tree = getattr(tree, part)
    tree.add_module(last, layer)


def _held_by_host(
    layer: nn.Module,
    is_input: bool,
    operations: type,
    dtype: torch.dtype | None,
    device: torch.device | None,
) -> nn.Module:
    """What computes as `layer` does, with a weight that the host may keep, cast and patch."""
    where = {"device": device, "dtype": dtype}
    if type(layer) is nn.Linear:
        has_bias = layer.bias is not None
        held = operations.Linear(layer.in_features, layer.out_features, bias=has_bias, **where)
        return _with_wide_bias(held)
    if is_input or type(layer) is nn.Embedding:
        held = operations.Embedding(layer.num_embeddings, layer.embedding_dim, **where)
        held.register_forward_hook(FinishRows(layer))
        return held
    return CastingLayer(layer, **where)


def _with_wide_bias(linear: nn.Module) -> nn.Module:
    # Qwen's biases go into the hundreds, where float8 has steps of 32 and soon ends.
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.float(), requires_grad=False)
    # For when the host makes a bias only as it is loaded.
    linear.bias_comfy_model_dtype = torch.float32
    return linear


class FinishRows:
    """Hook of an embedding: what transformers' makes of the rows that were looked up, in float32.

    Some models scale them, in a class of their own. It is run on the rows alone: the whole table
    in float32 would take gigabytes.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        self.own = None if type(embedding) is nn.Embedding else copy.deepcopy(embedding)
        if self.own is not None:
            self.own.padding_idx = None  # counts rows of the whole table
            self.own.weight = nn.Parameter(torch.zeros(1, embedding.embedding_dim))

    def __call__(self, module: nn.Module, arguments: tuple, rows: Tensor) -> Tensor:
        rows = rows.float()
        if self.own is None:
            return rows
        table = rows.flatten(0, -2)
        numbers = torch.arange(len(table), device=rows.device).view(rows.shape[:-1])
        return functional_call(self.own.to(rows.device), {"weight": table}, (numbers,))


class CastingLayer(nn.Module, comfy.ops.CastWeightBiasOp):
    """A layer of transformers, such as a norm, with a weight under the host's care.

    It computes with the weight in float32, as activations are.
    """

    def __init__(
        self, layer: nn.Module, *, device: torch.device | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.bias = None  # the host casts a weight and a bias together
        for name, weight in layer.named_parameters():
            kind = torch.float32 if weight.ndim < 2 else dtype
            empty = torch.empty(weight.shape, device=device, dtype=kind)
            setattr(self, name, nn.Parameter(empty, requires_grad=False))
        # In a tuple, or its own weights would be the host's to move and to save.
        self._layer = (copy.deepcopy(layer),)

    def forward(self, *arguments: object, **options: object) -> object:
        (layer,) = self._layer
        device = next(x.device for x in (*arguments, *options.values()) if isinstance(x, Tensor))
        weight, bias, stream = comfy.ops.cast_bias_weight(
            self, dtype=torch.float32, bias_dtype=torch.float32, device=device, offloadable=True
        )
        weights = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        out = functional_call(layer, weights, arguments, options)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return out
