"""Any text model that transformers has built in, as a network of ComfyUI's CLIP.

transformers computes; the host's layers hold the weights, under the checkpoint's names, so that
the host streams, casts and patches them as those of its own text encoders.
"""

import copy
from collections.abc import Mapping, Sequence

import comfy.ops
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..networks import NumberedStates
from ..token_table import TokenTable
from .build import weighted_layers
from .weights import TextModel

TEXT_MODEL = "text_model"


class HostTransformers(NumberedStates, nn.Module):
    """A text model of transformers with the interface that the host's SDClipModel calls.

    sizes: the `TextModel` under TEXT_MODEL, whose network becomes part of this one. dtype: of
    matrices. Vectors, such as those of norms, are small and stay in float32.
    """

    def __init__(
        self,
        sizes: Mapping[str, TextModel],
        dtype: torch.dtype | None,
        device: torch.device | None,
        operations: type,
    ) -> None:
        super().__init__()
        network = sizes[TEXT_MODEL].network
        embedding = network.get_input_embeddings()
        self.model = nn.Module()
        for name, layer in list(weighted_layers(network)):
            host_layer = _host_layer(layer, layer is embedding, operations, dtype, device)
            _add_submodule(self.model, name, host_layer)
            # The layer stays in the network, with the float32 weight that it was built with: T5
            # casts activations to that weight's dtype, which must not be the dtype of storage.
            layer.forward = host_layer.__call__
            if layer is embedding:
                self._embedding_name = name
        # In a tuple, or the host would find the layers twice.
        self._network = (network,)
        # The host counts hidden states by this number: one more than there are layers.
        self.num_layers = network.config.num_hidden_layers + 1

    def get_input_embeddings(self) -> TokenTable:
        return TokenTable(self.model.get_submodule(self._embedding_name))

    def states(
        self, numbers: Sequence[int], embeds: Tensor, attention_mask: Tensor | None
    ) -> Sequence[Tensor]:
        """Hidden states (B, S, D) of these numbers."""
        (network,) = self._network
        _move_buffers(network, embeds.device)
        hidden_states = network(
            inputs_embeds=embeds, attention_mask=attention_mask, output_hidden_states=True
        ).hidden_states
        return [hidden_states[number] for number in numbers]


def _move_buffers(network: nn.Module, device: torch.device) -> None:
    """Move the tensors that a network computes when it is built, such as rotary frequencies."""
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.device != device:
                setattr(module, name, buffer.to(device))


def _add_submodule(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Add `layer` under a dotted name, with the modules on the way to it."""
    *parents, last = name.split(".")
    for parent in parents:
        if not hasattr(module, parent):
            module.add_module(parent, nn.Module())
        module = getattr(module, parent)
    module.add_module(last, layer)


def _host_layer(
    layer: nn.Module,
    is_input: bool,
    operations: type,
    dtype: torch.dtype | None,
    device: torch.device | None,
) -> nn.Module:
    """A layer that computes as `layer` does, whose weight the host may move, cast and patch."""
    factory = {"device": device, "dtype": dtype}
    if type(layer) is nn.Linear:
        has_bias = layer.bias is not None
        linear = operations.Linear(layer.in_features, layer.out_features, bias=has_bias, **factory)
        return _with_float32_bias(linear)
    if is_input or type(layer) is nn.Embedding:
        embedding = operations.Embedding(layer.num_embeddings, layer.embedding_dim, **factory)
        embedding.register_forward_hook(FinishRows(layer))
        return embedding
    return CastingLayer(layer, **factory)


def _with_float32_bias(linear: nn.Module) -> nn.Module:
    # Qwen's biases reach hundreds, where float8 has steps of 32; its largest number is 448.
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.float(), requires_grad=False)
    # For a host that creates the bias only while loading it.
    linear.bias_comfy_model_dtype = torch.float32
    return linear


class FinishRows:
    """Forward hook of a host embedding: applies what transformers' own class does to the rows.

    Some models scale them. Their class runs on the looked-up rows alone, as a small float32 table:
    the complete table in float32 would take gigabytes.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        self.embedding = None if type(embedding) is nn.Embedding else copy.deepcopy(embedding)
        if self.embedding is not None:
            self.embedding.padding_idx = None  # an index into the complete table
            self.embedding.weight = nn.Parameter(torch.zeros(1, embedding.embedding_dim))

    def __call__(self, module: nn.Module, arguments: tuple, rows: Tensor) -> Tensor:
        rows = rows.float()
        if self.embedding is None:
            return rows
        table = rows.flatten(0, -2)
        indices = torch.arange(len(table), device=rows.device).view(rows.shape[:-1])
        return functional_call(self.embedding.to(rows.device), {"weight": table}, (indices,))


class CastingLayer(nn.Module, comfy.ops.CastWeightBiasOp):
    """A layer of transformers, such as a norm, whose weight the host may offload, cast and patch.

    It computes with the weight in float32, the dtype of activations.
    """

    def __init__(
        self, layer: nn.Module, *, device: torch.device | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.bias = None  # the host casts a weight and a bias together
        for name, weight in layer.named_parameters():
            weight_dtype = torch.float32 if weight.ndim < 2 else dtype
            empty = torch.empty(weight.shape, device=device, dtype=weight_dtype)
            setattr(self, name, nn.Parameter(empty, requires_grad=False))
        # In a tuple, or the host would move and save the layer's own weights as well.
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
