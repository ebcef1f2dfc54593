"""Selects and renames the tensors of a file that a text model built by transformers needs."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel

from ....lumina.checkpoints import strict
from ....lumina.checkpoints.key_names import OLD_SCALES, SCALES

_HEADS = ("lm_head.", "pooler.")  # parts of larger models, saved with the layers


@dataclass(frozen=True)
class TextModel:
    """The network that reads text in a model of transformers, without weights.

    prefix: of its weights' names in the complete model, "encoder." or "". tied_names: for a weight
    that the complete model uses more than once, its other names there.
    """

    network: PreTrainedModel
    prefix: str
    tied_names: Mapping[str, tuple[str, ...]]

    @property
    def model_type(self) -> str:
        return self.network.config.model_type

    @property
    def vocab_size(self) -> int:
        """Number of token embeddings."""
        return self.network.get_input_embeddings().num_embeddings

    @property
    def width(self) -> int:
        """Features of one embedding."""
        return self.network.get_input_embeddings().embedding_dim

    def to_native(self, weights: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
        """The network's weights in a file, under the network's names; they are not copied.

        Names may have any prefix, as in a larger model. Leaves out tensors without that prefix,
        such as a picture encoder, and output heads. Tensors may be on device "meta", as read from
        a header. Raises ValueError that names `source` and a key that is missing, unknown or of
        another shape.
        """
        shapes = strict.shapes_of(self.network)
        prefix = _prefix(weights, shapes)
        if prefix is None:
            raise ValueError(
                f'{source} is not the "{self.model_type}" model of its config.json: it has no '
                f'weight such as "{next(iter(shapes))}". Both must be of the same model.'
            )
        names = {key: self._names_in_file(key, prefix) for key in shapes}
        native = {
            key: weights[name]
            for key, aliases in names.items()
            for name in aliases
            if name in weights
        }
        strict.check(
            {prefix + key: tensor for key, tensor in native.items()},
            {prefix + key: shape for key, shape in shapes.items()},
            source,
            network_name=f'"{self.model_type}" model',
            shapes_from="its config.json",
            advice=f"{strict.GET_ALL} If config.json is another model's, choose its own.",
        )
        unused = weights.keys() - {name for aliases in names.values() for name in aliases}
        inside = {
            key.removeprefix(prefix): weights[key] for key in unused if key.startswith(prefix)
        }
        return native | self._scales(inside, prefix, source)

    def _names_in_file(self, key: str, prefix: str) -> list[str]:
        """The names that a weight of the network may have in a file, by the prefix there."""
        model_prefix = prefix.removesuffix(self.prefix)
        return [prefix + key, *(model_prefix + name for name in self.tied_names.get(key, ()))]

    def _scales(self, tensors: Mapping[str, Tensor], prefix: str, source: str) -> dict[str, Tensor]:
        """The quantization scales among tensors that are not weights of the network.

        Ignores output heads and stored tables. Raises ValueError for any other tensor.
        """
        layers = dict(self.network.named_modules())
        computed = {name for name, _ in self.network.named_buffers()}
        scales = {}
        for key, tensor in tensors.items():
            layer, _, name = key.rpartition(".")
            is_table = key in computed or key.endswith("rotary_emb.inv_freq")
            if not layer or key.startswith(_HEADS) or is_table:
                continue
            is_marked = name in SCALES and f"{layer}.comfy_quant" in tensors
            # Older files mark it in their metadata, which is not converted for a header's tensors.
            is_marked |= name in OLD_SCALES and tensor.is_meta
            if not is_marked or not self._may_be_quantized(layers.get(layer)):
                raise ValueError(
                    f'{source} has "{prefix}{key}", which is no part of the "{self.model_type}" '
                    "model that its config.json describes. Choose the config.json of the same "
                    "model; if the weights are quantized, a file in one of ComfyUI's formats."
                )
            scales[key] = tensor
        return scales

    def _may_be_quantized(self, layer: nn.Module | None) -> bool:
        is_plain = type(layer) in (nn.Linear, nn.Embedding)
        return is_plain or layer is self.network.get_input_embeddings()


def _prefix(keys: Iterable[str], names: Collection[str]) -> str | None:
    """The commonest prefix of the keys that end with one of `names`; None if none does."""
    counts: Counter[str] = Counter()
    for key in keys:
        parts = key.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in names:
                counts["".join(part + "." for part in parts[:start])] += 1
    return counts.most_common(1)[0][0] if counts else None
